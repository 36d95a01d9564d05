"""Matching: a student's hidden states and attention drawn to those of the teacher's layers that they stand in for.

Which layer answers for which follows the selection: a student's layer does the work of the teacher's layers from its own up to the
next that was kept, so its output is compared with the last of these. At equal width states are compared as they are, otherwise
through a learned projection that is dropped when the training ends (Jiao et al. 2020, "TinyBERT", equations 7 and 8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from pocketseq_distill.losses.terms import IGNORED

_PROJECTIONS: Final = "matching_projections"
"""Name of the submodule that holds the projections while a student trains, so that optimiser and checkpoints know them."""


@dataclass(frozen=True, slots=True)
class LayerMap:
    """Which of the teacher's layers each of the student's is compared with."""

    encoder: tuple[int, ...]
    """For each encoder layer of the student, a layer of the teacher's."""
    decoder: tuple[int, ...]
    """The same for the decoder."""


def stand_ins(selected: Sequence[int], total: int) -> tuple[int, ...]:
    """The teacher's layers up to which the chosen ones stand in: the last before the next that was kept.

    Args:
        selected: The teacher's layers that the student has, in its order.
        total: Layers of the teacher.
    """
    ends = [following - 1 if following > own else own for own, following in pairwise(selected)]
    return (*ends, total - 1)


def spread(keep: int, total: int) -> tuple[int, ...]:
    """Layers of a teacher for a student that has none of them: they share the teacher's evenly, the last ends with the last."""
    return tuple(-(-(layer + 1) * total // keep) - 1 for layer in range(keep))


class Matching:
    """The hidden-state and attention losses of one student."""

    def __init__(
        self, student: PreTrainedModel, teacher: PreTrainedModel, layers: LayerMap, *, hidden: float, attention: float, seed: int
    ) -> None:
        """Prepare both models; the student gets projections where its states are of another width.

        Args:
            student: The model in training.
            teacher: Its frozen teacher.
            layers: Which layer is compared with which.
            hidden: Weight of the hidden-state loss.
            attention: Weight of the attention loss.
            seed: Seed of the projections.
        """
        self._student = student
        self._layers = layers
        self._hidden = hidden
        self._attention = attention
        if attention:  # other implementations do not tell where they look
            for model in (student, teacher):
                model.set_attn_implementation("eager")
        widths = int(student.config.d_model), int(teacher.config.d_model)
        if hidden and widths[0] != widths[1]:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                stacks = {"encoder": layers.encoder, "decoder": layers.decoder}
                modules = {name: nn.ModuleList(nn.Linear(*widths, bias=False) for _ in one) for name, one in stacks.items()}
                student.add_module(_PROJECTIONS, nn.ModuleDict(modules).to(student.device))

    @property
    def asks(self) -> dict[str, bool]:
        """What both models have to return for it."""
        return {"output_hidden_states": bool(self._hidden), "output_attentions": bool(self._attention)}

    def loss(self, student: Any, teacher: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Both losses, weighted.

        Each is a mean over a row's positions times the row's labels, so that it weighs like the other losses and adds up over
        accumulated batches as they do.

        Args:
            student: What the student returned; an encoder that stood still told nothing and is left out.
            teacher: What the teacher returned.
            batch: ``attention_mask`` int64 [batch, source], ``labels`` int64 [batch, step].

        Returns:
            float32 [].
        """
        target = batch["labels"] != IGNORED
        labels = target.sum(1)
        total = torch.zeros((), device=labels.device)
        for stack, mask in (("encoder", batch["attention_mask"].bool()), ("decoder", target)):
            layers = self._layers.encoder if stack == "encoder" else self._layers.decoder
            share = mask / mask.sum(1, keepdim=True).clamp(min=1) * labels[:, None]
            if self._hidden and (states := getattr(student, f"{stack}_hidden_states")) is not None:
                theirs = getattr(teacher, f"{stack}_hidden_states")
                for place, layer in enumerate(layers):
                    apart = _relative_error(self._projected(stack, place, states[place + 1]), theirs[layer + 1])
                    total = total + self._hidden / len(layers) * (share * apart).sum()
            for kind in ("encoder_attentions",) if stack == "encoder" else ("decoder_attentions", "cross_attentions"):
                if self._attention and (weights := getattr(student, kind)) is not None:
                    theirs = getattr(teacher, kind)
                    for place, layer in enumerate(layers):
                        apart = _attention_divergence(weights[place], theirs[layer])
                        total = total + self._attention / len(layers) * (share * apart).sum()
        return total

    def _projected(self, stack: str, place: int, states: Tensor) -> Tensor:
        projections = getattr(self._student, _PROJECTIONS, None)
        if projections is None:
            return states
        projected: Tensor = projections[stack][place](states)
        return projected

    def drop(self) -> None:
        """Take the projections off the student again."""
        if hasattr(self._student, _PROJECTIONS):
            delattr(self._student, _PROJECTIONS)


def _relative_error(states: Tensor, theirs: Tensor) -> Tensor:
    """‖s − t‖² / ‖t‖² at each position, float32 [batch, step] of states [batch, step, width]; layers differ in scale."""
    theirs = theirs.float()
    return (states.float() - theirs).square().sum(-1) / theirs.square().sum(-1).clamp(min=1e-6)


def _attention_divergence(weights: Tensor, theirs: Tensor) -> Tensor:
    """KL(teacher ‖ student) of where a position looks, float32 [batch, query] of weights [batch, head, query, key].

    Heads are compared one by one where there are as many, otherwise in their mean.
    """
    weights, theirs = weights.float(), theirs.float()
    if weights.size(1) != theirs.size(1):
        weights, theirs = weights.mean(1, keepdim=True), theirs.mean(1, keepdim=True)
    logs = weights.clamp(min=1e-9).log()
    return functional.kl_div(logs, theirs, reduction="none").sum(-1).mean(1)

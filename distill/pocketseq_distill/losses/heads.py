"""Heads: the step from a model's last states to its vocabulary, taken a few positions at a time.

Logits are the largest tensor of a small model: 64 answers of 32 tokens over 32,000 tokens are 260 MB in float32, several times over
with the gradients and a teacher's. Here they exist for one chunk of positions at a time, whose gradients are made before the next
chunk comes (as Hsu et al. 2024, "Liger Kernel", section 3.2, make those of the cross-entropy): nothing is computed twice, and
memory does not grow with the batch. Positions that count for nothing never meet the vocabulary at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from pocketseq_distill.losses.terms import IGNORED, TopTokens, distillation_loss
from pocketseq_distill.losses.weights import LossWeights

_CHUNK_ELEMENTS: Final = 1 << 21
"""Logits that exist together: 8 MB in float32, which a processor's cache still holds."""
_ACCELERATOR_CHUNK_ELEMENTS: Final = 1 << 26
"""The same on an accelerator, 256 MB: it computes them faster than it is told to, so that the fewer chunks the better."""
_FEWEST_POSITIONS: Final = 128
"""Positions of a chunk however large the vocabulary is: each chunk adds to the gradient of the whole output layer."""


@dataclass(frozen=True, slots=True)
class Head:
    """A model's output layer."""

    project: Callable[[Tensor], Tensor]
    """States float [..., width] → logits float [..., vocab], without the bias."""
    bias: Tensor | None
    """float [vocab], as BART and Marian add it to their logits."""
    vocab_size: int
    weights: tuple[Tensor, ...]
    """What of it is trained."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> Head:
        """The output layer of an encoder-decoder."""
        layer = model.get_output_embeddings()
        bias = getattr(model, "final_logits_bias", None)
        trained = tuple(weight for weight in layer.parameters() if weight.requires_grad)
        return cls(layer.forward, None if bias is None else bias.flatten(), int(layer.weight.size(0)), trained)

    def __call__(self, states: Tensor) -> Tensor:
        """Logits float [..., vocab] of states float [..., width]."""
        logits = self.project(states)
        return logits if self.bias is None else logits + self.bias


@dataclass(frozen=True, slots=True)
class Unspoken:
    """What a model has in mind at some positions, before it is spelt out over the vocabulary."""

    states: Tensor
    """float [..., width]: what the output layer takes."""
    head: Head

    def __getitem__(self, places: Tensor | slice) -> Unspoken:
        """Some of the positions."""
        return Unspoken(self.states[places], self.head)

    def flattened(self) -> Unspoken:
        """All positions of all rows, one after the other."""
        return Unspoken(self.states.flatten(0, 1), self.head)


Taught: TypeAlias = Unspoken | TopTokens
"""What a teacher says, as the chunks take it."""


@contextmanager
def unspoken(model: PreTrainedModel) -> Iterator[list[Unspoken]]:
    """While the block runs, collect what a model has in mind at each call instead of its logits.

    The logits that the model returns are one number. It comes out of states and output layer, so that whatever looks for the
    parameters that a call used, as parallel training does, finds all of them.
    """
    layer = model.get_output_embeddings()
    head = Head.of(model)
    caught: list[Unspoken] = []
    before = layer.__dict__.get("forward")

    def catch(states: Tensor) -> Tensor:
        caught.append(Unspoken(states, head))
        return functional.linear(states[:1, :1], layer.weight[:1])

    layer.forward = catch
    try:
        yield caught
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before


def chunked_loss(
    student: Unspoken,
    teacher: Taught | None,
    labels: Tensor,
    weights: LossWeights,
    *,
    positions: int | None = None,
    fixed: bool = False,
) -> Tensor:
    """``losses.distillation_loss``, a few positions at a time.

    Args:
        student: States float [batch, step, width].
        teacher: The teacher's states or likeliest tokens at the same positions; None for the labels alone.
        labels: int64 [batch, step]; ``IGNORED`` where there is none.
        weights: How the losses are mixed.
        positions: Whose logits may exist together; by the size of the vocabulary if not given.
        fixed: See ``losses.distillation_loss``.

    Returns:
        float32 []: the sum over the labelled positions.
    """
    if fixed:
        spoken, states, known = labels.flatten(), student.states.flatten(0, 1), None if teacher is None else teacher.flattened()
    else:
        counted = labels != IGNORED
        spoken, states, known = labels[counted], student.states[counted], None if teacher is None else teacher[counted]

    def part(states: Tensor, places: slice) -> Tensor:
        taught = known[places] if known is not None else None
        with torch.no_grad():
            said = taught.head(taught.states) if isinstance(taught, Unspoken) else taught
        return distillation_loss(student.head(states), said, spoken[places], weights, fixed=fixed)

    found: Tensor = _Sum.apply(part, _chunks(student, len(spoken), positions), states, *student.head.weights)  # type: ignore[no-untyped-call]
    return found


def label_logprobs(student: Unspoken, labels: Tensor, *, positions: int | None = None) -> Tensor:
    """Log-probabilities that a model gives to labels, float32 [batch, step]; zero where there is none.

    Args:
        student: States float [batch, step, width].
        labels: int64 [batch, step]; ``IGNORED`` where there is none.
        positions: As in ``chunked_loss``.
    """
    counted = labels != IGNORED
    spoken, states = labels[counted], student.states[counted]

    def part(some: Tensor, places: slice) -> Tensor:
        return -functional.cross_entropy(student.head(some).float(), spoken[places], reduction="none")

    # What they are for is decided later, so that their gradients cannot be made now: logits of several chunks are computed anew.
    chunks = _chunks(student, len(spoken), positions)
    anew = partial(checkpoint, part, use_reentrant=False, preserve_rng_state=False) if len(chunks) > 1 else part
    found = torch.cat([anew(states[places], places) for places in chunks])
    return torch.zeros(labels.shape, device=found.device).masked_scatter(counted, found)


def likeliest(said: Unspoken, count: int, *, positions: int | None = None) -> TopTokens:
    """The likeliest tokens at every position, with their log-probabilities among the whole vocabulary.

    Args:
        said: States float [position, width].
        count: Tokens for each position.
        positions: As in ``chunked_loss``.

    Returns:
        ids int64 and logprobs float32, both [position, count], likeliest first.
    """
    parts = [
        said.head(said.states[places]).float().log_softmax(-1).topk(count) for places in _chunks(said, len(said.states), positions)
    ]
    return TopTokens(ids=torch.cat([part.indices for part in parts]), logprobs=torch.cat([part.values for part in parts]))


def _chunks(student: Unspoken, count: int, positions: int | None) -> list[slice]:
    """Places of the chunks; one without any where there is nothing."""
    elements = _CHUNK_ELEMENTS if student.states.device.type == "cpu" else _ACCELERATOR_CHUNK_ELEMENTS
    step = positions or max(_FEWEST_POSITIONS, elements // student.head.vocab_size)
    return [slice(begin, min(begin + step, count)) for begin in range(0, max(count, 1), step)]


class _Sum(torch.autograd.Function):
    """Sum of a function over chunks of states, with the gradients of each chunk made at once."""

    @staticmethod
    def forward(
        ctx: Any, part: Callable[[Tensor, slice], Tensor], chunks: Sequence[slice], states: Tensor, *weights: Tensor
    ) -> Tensor:
        """Take float [position, width] and what of the output layer is trained; give float32 []."""
        total, to_states = torch.zeros((), device=states.device), torch.empty_like(states)
        to_weights: list[Tensor] = []
        for places in chunks:
            with torch.enable_grad():
                some = states[places].detach().requires_grad_()
                value = part(some, places)
            to_states[places], *more = torch.autograd.grad(value, (some, *weights))
            to_weights = [one.add_(other) for one, other in zip(to_weights, more, strict=True)] if to_weights else more
            total += value.detach()
        ctx.save_for_backward(to_states, *to_weights)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients by that of the sum."""
        return (None, None, *(saved * gradients[0] for saved in ctx.saved_tensors))

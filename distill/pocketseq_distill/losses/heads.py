"""Heads: the step from a model's last states to its vocabulary, taken a few positions at a time.

Logits are the largest tensor of a small model: 64 answers of 32 tokens over 32,000 tokens are 260 MB in float32, several times over
with the gradients and a teacher's. Here they exist for one chunk of positions at a time and are computed anew in the backward pass,
so that memory depends on neither vocabulary nor batch; positions that count for nothing never meet the vocabulary at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from pocketseq_distill.losses.terms import IGNORED, LossWeights, TopTokens, distillation_loss

CHUNK_ELEMENTS: Final = 1 << 22
"""Logits that exist together: 16 MB in float32, and 128 positions of a vocabulary of 32,000."""


@dataclass(frozen=True, slots=True)
class Head:
    """A model's output layer."""

    project: Callable[[Tensor], Tensor]
    """States float [..., width] → logits float [..., vocab], without the bias."""
    bias: Tensor | None
    """float [vocab], as BART and Marian add it to their logits."""
    vocab_size: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Head:
        """The output layer of an encoder-decoder."""
        layer = model.get_output_embeddings()
        bias = getattr(model, "final_logits_bias", None)
        return cls(layer.forward, None if bias is None else bias.flatten(), int(layer.weight.size(0)))

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
    student: Unspoken, teacher: Taught | None, labels: Tensor, weights: LossWeights, *, elements: int = CHUNK_ELEMENTS
) -> Tensor:
    """``losses.distillation_loss``, a few positions at a time.

    Args:
        student: States float [batch, step, width].
        teacher: The teacher's states or likeliest tokens at the same positions; None for the labels alone.
        labels: int64 [batch, step]; ``IGNORED`` where there is none.
        weights: How the losses are mixed.
        elements: Logits that may exist together; at least those of one position do.

    Returns:
        float32 []: the sum over the labelled positions.
    """
    counted = labels != IGNORED
    spoken, known = labels[counted], None if teacher is None else teacher[counted]

    def part(states: Tensor, places: slice) -> Tensor:
        taught = known[places] if known is not None else None
        with torch.no_grad():
            said = taught.head(taught.states) if isinstance(taught, Unspoken) else taught
        return distillation_loss(student.head(states), said, spoken[places], weights)

    return torch.stack(list(_over_chunks(part, student[counted], elements))).sum()


def label_logprobs(student: Unspoken, labels: Tensor, *, elements: int = CHUNK_ELEMENTS) -> Tensor:
    """Log-probabilities that a model gives to labels, float32 [batch, step]; zero where there is none.

    Args:
        student: States float [batch, step, width].
        labels: int64 [batch, step]; ``IGNORED`` where there is none.
        elements: Logits that may exist together.
    """
    counted = labels != IGNORED
    spoken = labels[counted]

    def part(states: Tensor, places: slice) -> Tensor:
        return -functional.cross_entropy(student.head(states).float(), spoken[places], reduction="none")

    found = torch.cat(list(_over_chunks(part, student[counted], elements)))
    return torch.zeros(labels.shape, device=found.device).masked_scatter(counted, found)


def _over_chunks(part: Callable[[Tensor, slice], Tensor], student: Unspoken, elements: int) -> Iterator[Tensor]:
    """Apply a function to chunks of states [position, width]; a single chunk keeps its logits, several are computed anew."""
    count, step = len(student.states), max(1, elements // student.head.vocab_size)
    if count <= step:
        yield part(student.states, slice(0, count))
        return
    for begin in range(0, count, step):
        places = slice(begin, min(begin + step, count))
        yield checkpoint(part, student.states[places], places, use_reentrant=False, preserve_rng_state=False)

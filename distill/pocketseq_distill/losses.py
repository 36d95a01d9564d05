"""Losses of a student: cross-entropy with the label, and forward KL from the teacher's distribution.

Each is a *sum* over the labelled positions, so that the caller divides once, by the number of labels in everything that makes
up one update: that is what makes accumulated gradients equal those of one full batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

IGNORED: Final = -100
"""Label of a position that counts for nothing: padding."""


def cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Sum of −log p(label) over the labelled positions.

    Args:
        logits: float [batch, step, vocab].
        labels: int64 [batch, step]; ``IGNORED`` where there is none.
        smoothing: Share of the probability that is spread evenly over the vocabulary.

    Returns:
        float32 []; zero where nothing is labelled.
    """
    return functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )


def forward_kl(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Sum over the labelled positions of T²·KL(teacher ‖ student), both softened by the temperature T.

    The factor T² keeps the size of the gradients when T changes (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in
    a Neural Network", section 2).

    Args:
        student_logits: float [batch, step, vocab].
        teacher_logits: float [batch, step, vocab], of the same vocabulary.
        labels: int64 [batch, step]; ``IGNORED`` where there is none.
        temperature: T, above zero.

    Returns:
        float32 []; zero where nothing is labelled.
    """
    counted = labels != IGNORED
    student = functional.log_softmax(student_logits[counted].float() / temperature, dim=-1)
    teacher = functional.log_softmax(teacher_logits[counted].float() / temperature, dim=-1)
    return functional.kl_div(student, teacher, reduction="sum", log_target=True) * temperature**2


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """How the losses are mixed."""

    cross_entropy: float = 1.0
    """Weight of the cross-entropy with the label."""
    divergence: float = 0.0
    """Weight of the forward KL from the teacher; zero needs no teacher."""
    temperature: float = 1.0
    """Temperature at which the two distributions are compared."""
    smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor, weights: LossWeights) -> Tensor:
    """Weighted sum of the losses over the labelled positions.

    Args:
        student_logits: float [batch, step, vocab].
        teacher_logits: float [batch, step, vocab], or None for cross-entropy alone.
        labels: int64 [batch, step]; ``IGNORED`` where there is none.
        weights: How the losses are mixed.

    Returns:
        float32 []; the caller divides by the number of labels.
    """
    total = torch.zeros((), device=student_logits.device)
    if weights.cross_entropy:
        total = total + weights.cross_entropy * cross_entropy(student_logits, labels, smoothing=weights.smoothing)
    if weights.divergence and teacher_logits is not None:
        divergence = forward_kl(student_logits, teacher_logits, labels, temperature=weights.temperature)
        total = total + weights.divergence * divergence
    return total

"""One loss at a time, as the sum of it."""

from __future__ import annotations

from torch import Tensor

from pocketseq_distill.losses.terms import Teaching, distillation_loss
from pocketseq_distill.losses.weights import Divergence, LossWeights


def cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    return distillation_loss(logits, None, labels, LossWeights(smoothing=smoothing))


def divergence(
    student_logits: Tensor,
    teacher: Teaching,
    labels: Tensor,
    *,
    kind: Divergence = "forward_kl",
    temperature: float = 1.0,
    beta: float = 0.5,
) -> Tensor:
    weights = LossWeights(cross_entropy=0.0, divergence=1.0, kind=kind, temperature=temperature, beta=beta)
    return distillation_loss(student_logits, teacher, labels, weights)

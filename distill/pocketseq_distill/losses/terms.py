"""Losses of a student: cross-entropy with the label, a divergence from the teacher's distribution, and a term that teaches doubt.

Each is a *sum* over the labelled positions, so that the caller divides once, by the number of labels in everything that makes
up one update: that is what makes accumulated gradients equal those of one full batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from pocketseq_distill.losses.weights import LossWeights

IGNORED: Final = -100
"""Label of a position that counts for nothing: padding."""


@dataclass(frozen=True, slots=True)
class TopTokens:
    """A teacher's distribution cut to its likeliest tokens; what is left of the probability is one bucket, the tail."""

    ids: Tensor
    """int64 [..., k]."""
    logprobs: Tensor
    """float [..., k]: at temperature 1, of the whole vocabulary."""

    def __getitem__(self, places: Tensor | slice) -> TopTokens:
        """What is known of some of the positions."""
        return TopTokens(self.ids[places], self.logprobs[places])

    def flattened(self) -> TopTokens:
        """All positions of all rows, one after the other."""
        return TopTokens(self.ids.flatten(0, 1), self.logprobs.flatten(0, 1))


Teaching: TypeAlias = Tensor | TopTokens
"""What a teacher says of every position: logits float [..., vocab], or its likeliest tokens."""


def _divergence(student: Tensor, target: Tensor, weights: LossWeights) -> Tensor:
    """T² times the divergence, float32 [position] of log-probabilities float32 [position, token] both, softened by T.

    With P the teacher's and Q the student's distribution: forward KL is KL(P ‖ Q), reverse KL is KL(Q ‖ P), and the generalized
    Jensen-Shannon divergence is β·KL(P ‖ M) + (1 − β)·KL(Q ‖ M) with M = β·P + (1 − β)·Q (Agarwal et al. 2024, "On-Policy
    Distillation of Language Models", equation 1). The factor T² keeps the size of the gradients when T changes (Hinton, Vinyals
    and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2).
    """
    match weights.kind:
        case "forward_kl":
            total = _kl(target, student)
        case "reverse_kl":
            total = _kl(student, target)
        case "jensen_shannon":
            shares = torch.tensor([weights.beta, 1 - weights.beta], device=student.device).log()
            middle = torch.logsumexp(torch.stack((target, student), dim=-1) + shares, dim=-1)
            total = weights.beta * _kl(target, middle) + (1 - weights.beta) * _kl(student, middle)
    return total * weights.temperature**2


def _kl(one: Tensor, other: Tensor) -> Tensor:
    """KL(one ‖ other), float32 [position] of log-probabilities float32 [position, token] both."""
    return functional.kl_div(other, one, reduction="none", log_target=True).sum(-1)


def _with_tail(logprobs: Tensor) -> Tensor:
    """Log-probabilities [position, k] → [position, k + 1], the last that of all other tokens together."""
    # Bounded away from zero: a teacher that is sure leaves a tail of rounding errors, whose logarithm must stay a number.
    tail = torch.log1p(-logprobs.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-6))
    return torch.cat((logprobs, tail), dim=-1)


def _doubt(logprobs: Tensor, labels: Tensor, balance: float) -> Tensor:
    """What makes a model sure where it is right and unsure where it is wrong, float32 [position].

    Where the likeliest token is the label, its cross-entropy, times the balance; where it is not, the divergence of the model's
    distribution from the even one, KL(Q ‖ U) = log |V| − H(Q), times one less the balance (Rabanser et al. 2025, "Gatekeeper:
    Improving Model Cascades Through Confidence Tuning"). It costs some accuracy where it buys doubt: measure both.

    Args:
        logprobs: float32 [position, vocab].
        labels: int64 [position].
        balance: α from 0 to 1; the smaller, the more a wrong token's doubt counts.
    """
    right = logprobs.argmax(-1) == labels
    surprise = -logprobs.gather(-1, labels[:, None])[:, 0]
    certainty = (logprobs.exp() * logprobs).sum(-1) + math.log(logprobs.size(-1))
    return torch.where(right, balance * surprise, (1 - balance) * certainty)


def distillation_loss(
    student_logits: Tensor, teacher: Teaching | None, labels: Tensor, weights: LossWeights, *, fixed: bool = False
) -> Tensor:
    """Weighted sum of the losses over the labelled positions.

    Args:
        student_logits: float [..., vocab].
        teacher: What the teacher says of the same positions, or None for the labels alone.
        labels: int64 [...]; ``IGNORED`` where there is none.
        weights: How the losses are mixed.
        fixed: Compute every position of [position, vocab] and count those that are labelled, so that no shape depends on what the
            labels hold, as recorded updates want it (see ``graphs``).

    Returns:
        float32 []; the caller divides by the number of labels.
    """
    counted = labels != IGNORED
    taught = teacher if weights.divergence else None
    if fixed:
        labels = labels.clamp(min=0)
    # Seldom are some left out here: chunks hold only what counts, and a copy of the logits is as large as they are.
    elif labels.ndim != 1 or not counted.all():
        student_logits, labels, taught = student_logits[counted], labels[counted], None if taught is None else taught[counted]
    logits, heat = student_logits.float(), weights.temperature
    logprobs = functional.log_softmax(logits, dim=-1)
    # Labels and the teacher's tokens in one gather: the gradient of each is as large as the logits.
    asked = labels[:, None] if not isinstance(taught, TopTokens) else torch.cat((labels[:, None], taught.ids), dim=-1)
    said = logprobs.gather(-1, asked)
    parts: list[Tensor] = []
    if weights.cross_entropy:
        entropy = -said[:, 0]
        if weights.smoothing:
            entropy = (1 - weights.smoothing) * entropy - weights.smoothing * logprobs.mean(-1)
        parts.append(weights.cross_entropy * entropy)
    if isinstance(taught, TopTokens):
        target = _with_tail(taught.logprobs.float())
        parts.append(weights.divergence * _divergence(_with_tail(said[:, 1:]), target, weights))
    elif taught is not None:
        softened = logprobs if heat == 1 else functional.log_softmax(logits / heat, dim=-1)
        target = functional.log_softmax(taught.float() / heat, dim=-1)
        parts.append(weights.divergence * _divergence(softened, target, weights))
    if weights.doubt:
        parts.append(weights.doubt * _doubt(logprobs, labels, weights.balance))
    total = torch.stack(parts).sum(0) if parts else logprobs.new_zeros(len(logprobs))
    return torch.where(counted, total, 0.0).sum() if fixed else total.sum()

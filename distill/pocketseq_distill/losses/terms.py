"""Losses of a student: cross-entropy with the label, a divergence from the teacher's distribution, and a term that teaches doubt.

Each is a *sum* over the labelled positions, so that the caller divides once, by the number of labels in everything that makes
up one update: that is what makes accumulated gradients equal those of one full batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

IGNORED: Final = -100
"""Label of a position that counts for nothing: padding."""

Divergence: TypeAlias = Literal["forward_kl", "reverse_kl", "jensen_shannon"]
"""How far the student is from its teacher: ``forward_kl`` asks it to cover all that the teacher may say, ``reverse_kl`` to say
nothing that the teacher would not, ``jensen_shannon`` lies between them."""


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


Teaching: TypeAlias = Tensor | TopTokens
"""What a teacher says of every position: logits float [..., vocab], or its likeliest tokens."""


def cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Sum of −log p(label) over the labelled positions.

    Args:
        logits: float [..., vocab].
        labels: int64 [...]; ``IGNORED`` where there is none.
        smoothing: Share of the probability that is spread evenly over the vocabulary.

    Returns:
        float32 []; zero where nothing is labelled.
    """
    return functional.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )


def divergence(
    student_logits: Tensor,
    teacher: Teaching,
    labels: Tensor,
    *,
    kind: Divergence = "forward_kl",
    temperature: float = 1.0,
    beta: float = 0.5,
) -> Tensor:
    """Sum over the labelled positions of T² times the divergence, both distributions softened by the temperature T.

    With P the teacher's and Q the student's distribution: forward KL is KL(P ‖ Q), reverse KL is KL(Q ‖ P), and the generalized
    Jensen-Shannon divergence is β·KL(P ‖ M) + (1 − β)·KL(Q ‖ M) with M = β·P + (1 − β)·Q (Agarwal et al. 2024, "On-Policy
    Distillation of Language Models", equation 1). The factor T² keeps the size of the gradients when T changes (Hinton, Vinyals
    and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2).

    Args:
        student_logits: float [..., vocab].
        teacher: Logits of the same vocabulary, or the likeliest tokens; then all other tokens are one, for both models.
        labels: int64 [...]; ``IGNORED`` where there is none.
        kind: Which divergence.
        temperature: T, above zero; of the likeliest tokens only 1 is known.
        beta: β of the Jensen-Shannon divergence, between 0 and 1.

    Returns:
        float32 []; zero where nothing is labelled.
    """
    counted = labels != IGNORED
    logits = student_logits[counted].float() / temperature
    if isinstance(teacher, TopTokens):
        known = teacher[counted]
        likeliest = logits.gather(-1, known.ids) - logits.logsumexp(-1, keepdim=True)
        student, target = _with_tail(likeliest), _with_tail(known.logprobs.float())
    else:
        student = functional.log_softmax(logits, dim=-1)
        target = functional.log_softmax(teacher[counted].float() / temperature, dim=-1)
    match kind:
        case "forward_kl":
            total = _kl(target, student)
        case "reverse_kl":
            total = _kl(student, target)
        case "jensen_shannon":
            weights = torch.tensor([beta, 1 - beta], device=student.device).log()
            middle = torch.logsumexp(torch.stack((target, student), dim=-1) + weights, dim=-1)
            total = beta * _kl(target, middle) + (1 - beta) * _kl(student, middle)
    return total * temperature**2


def _kl(one: Tensor, other: Tensor) -> Tensor:
    """Sum of KL(one ‖ other), log-probabilities float32 [position, token] both."""
    return functional.kl_div(other, one, reduction="sum", log_target=True)


def _with_tail(logprobs: Tensor) -> Tensor:
    """Log-probabilities [position, k] → [position, k + 1], the last that of all other tokens together."""
    # Bounded away from zero: a teacher that is sure leaves a tail of rounding errors, whose logarithm must stay a number.
    tail = torch.log1p(-logprobs.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-6))
    return torch.cat((logprobs, tail), dim=-1)


def doubt(logits: Tensor, labels: Tensor, *, balance: float = 0.5) -> Tensor:
    """Sum over the labelled positions of what makes a model sure where it is right and unsure where it is wrong.

    Where the likeliest token is the label, its cross-entropy, times the balance; where it is not, the divergence of the model's
    distribution from the even one, KL(Q ‖ U) = log |V| − H(Q), times one less the balance (Rabanser et al. 2025, "Gatekeeper:
    Improving Model Cascades Through Confidence Tuning"). It costs some accuracy where it buys doubt: measure both.

    Args:
        logits: float [..., vocab].
        labels: int64 [...]; ``IGNORED`` where there is none.
        balance: α from 0 to 1; the smaller, the more a wrong token's doubt counts.

    Returns:
        float32 []; zero where nothing is labelled.
    """
    counted = labels != IGNORED
    logprobs, spoken = functional.log_softmax(logits[counted].float(), dim=-1), labels[counted]
    right = logprobs.argmax(-1) == spoken
    surprise = -logprobs.gather(-1, spoken[:, None])[:, 0]
    certainty = (logprobs.exp() * logprobs).sum(-1) + math.log(logits.size(-1))
    return torch.where(right, balance * surprise, (1 - balance) * certainty).sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """How the losses are mixed."""

    cross_entropy: float = 1.0
    """Weight of the cross-entropy with the label."""
    divergence: float = 0.0
    """Weight of the divergence from the teacher; zero needs no teacher."""
    kind: Divergence = "forward_kl"
    """Which divergence."""
    temperature: float = 1.0
    """Temperature at which the two distributions are compared."""
    beta: float = 0.5
    """β of the Jensen-Shannon divergence."""
    smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""
    doubt: float = 0.0
    """Weight of the term that makes the student unsure where it is wrong."""
    balance: float = 0.5
    """Balance of that term between being sure and being unsure."""


def distillation_loss(student_logits: Tensor, teacher: Teaching | None, labels: Tensor, weights: LossWeights) -> Tensor:
    """Weighted sum of the losses over the labelled positions.

    Args:
        student_logits: float [..., vocab].
        teacher: What the teacher says of the same positions, or None for the labels alone.
        labels: int64 [...]; ``IGNORED`` where there is none.
        weights: How the losses are mixed.

    Returns:
        float32 []; the caller divides by the number of labels.
    """
    total = torch.zeros((), device=student_logits.device)
    if weights.cross_entropy:
        total = total + weights.cross_entropy * cross_entropy(student_logits, labels, smoothing=weights.smoothing)
    if weights.divergence and teacher is not None:
        apart = divergence(student_logits, teacher, labels, kind=weights.kind, temperature=weights.temperature, beta=weights.beta)
        total = total + weights.divergence * apart
    if weights.doubt:
        total = total + weights.doubt * doubt(student_logits, labels, balance=weights.balance)
    return total

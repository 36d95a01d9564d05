"""How the losses are mixed: what a plan says of them, which can be read without a training library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Divergence: TypeAlias = Literal["forward_kl", "reverse_kl", "jensen_shannon"]
"""How far the student is from its teacher: ``forward_kl`` asks it to cover all that the teacher may say, ``reverse_kl`` to say
nothing that the teacher would not, ``jensen_shannon`` lies between them."""


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
    """Temperature at which the two distributions are compared; with likeliest tokens 1, all others being one."""
    beta: float = 0.5
    """β of the Jensen-Shannon divergence."""
    smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""
    doubt: float = 0.0
    """Weight of the term that makes the student unsure where it is wrong."""
    balance: float = 0.5
    """Balance of that term between being sure and being unsure."""

"""Rules: a confidence straight from the numbers, with nothing learnt.

With l_i = log p(y_i | y_<i, x) from the raw distribution. The Chow rules are those of Gupta et al. 2024, "Language Model Cascades:
Token-level uncertainty and beyond", put through exp so that each lies in 0 to 1. No rule is best everywhere: calibration picks one
for a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pocketseq.confidence.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Scorer:
    """One way to turn evidence into a confidence."""

    log_confidence: Callable[[Evidence], float]
    """(evidence with at least one token) → log-confidence."""
    looks_at_spread: bool = False
    """Whether it needs ``entropies`` and ``gaps``, which cost some microseconds a token."""
    looks_at_gate: bool = False
    """Whether it needs what the gate made of the encoder's state."""
    looks_at_state: bool = False
    """Whether it needs the pooled encoder state itself."""


def quantile(ordered: Sequence[float], level: float) -> float:
    """The quantile of numbers in rising order, interpolated as numpy does by default.

    Args:
        ordered: At least one number.
        level: 0 to 1.
    """
    return quantiles(ordered, (level,))[0]


def quantiles(ordered: Sequence[float], levels: Sequence[float]) -> list[float]:
    """Several at once; see ``quantile``."""
    found, last = [], len(ordered) - 1
    for level in levels:
        place = level * last
        low = int(place)
        below, above = ordered[low], ordered[min(low + 1, last)]
        # Both may be infinite, and their difference no number.
        found.append(below if below == above else below + (place - low) * (above - below))
    return found


def chow_quantile(level: float) -> Scorer:
    """The quantile of the tokens' log-probabilities; level 0 is the least probable token.

    Args:
        level: 0 to 1.
    """
    return Scorer(lambda evidence: quantile(sorted(evidence.logprobs), level))


def _chow_average(evidence: Evidence) -> float:
    return math.fsum(evidence.logprobs) / len(evidence.logprobs)


def _entropy(evidence: Evidence) -> float:
    if not evidence.entropies:
        return math.nan
    return -math.fsum(evidence.entropies) / len(evidence.entropies)


def _beam_margin(evidence: Evidence) -> float:
    # Without beams: the likeliest way to leave the answer is the second token where it came closest.
    if evidence.rival is not None:
        gap = math.fsum(evidence.logprobs) - evidence.rival
    elif evidence.gaps:
        gap = min(evidence.gaps)
    else:
        return math.nan
    return math.log(-math.expm1(-gap)) if gap > 0 else -math.inf


SCORERS: Final[Mapping[str, Scorer]] = {
    "chow_sum": Scorer(lambda evidence: math.fsum(evidence.logprobs)),
    "chow_average": Scorer(_chow_average),
    "chow_minimum": chow_quantile(0.0),
    "chow_quantile_10": chow_quantile(0.1),
    "chow_quantile_25": chow_quantile(0.25),
    "chow_quantile_50": chow_quantile(0.5),
    "first_token": Scorer(lambda evidence: evidence.logprobs[0]),
    "entropy": Scorer(_entropy, looks_at_spread=True),
    "beam_margin": Scorer(_beam_margin, looks_at_spread=True),
}
"""Rules by the name that a calibration carries: the probability of the whole answer; the geometric mean of its tokens'
probabilities, the least of them, and their quantiles at 10, 25 and 50 per cent; the first token's; exp of minus the mean entropy;
and by what share the best answer is likelier than the second (where no beams were searched, than the nearest one that differs in
one token)."""

DEFAULT_SCORER: Final = "chow_sum"
"""Used where no calibration chose another: the probability that the model gives to the whole answer."""


def confidence(evidence: Evidence, scorer: Scorer = SCORERS[DEFAULT_SCORER]) -> float | None:
    """Score an answer.

    Args:
        evidence: What is known of it.
        scorer: A value of ``SCORERS``, or a learned one.

    Returns:
        A number in 0 to 1, or None where there is no token or a number is none: better no confidence than a made-up one.
    """
    if not evidence.logprobs or any(map(math.isnan, evidence.logprobs)):
        return None
    log_confidence = scorer.log_confidence(evidence)
    # Rounding may leave a log-probability a hair above zero.
    return None if math.isnan(log_confidence) else math.exp(min(0.0, log_confidence))

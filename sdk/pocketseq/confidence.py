"""Confidence: one number in 0 to 1 out of the log-probabilities of an answer's tokens.

With l_i = log p(y_i | y_<i, x) from the raw distribution, never after temperature or top-p. The rules are those of Gupta et al.
2024, "Language Model Cascades: Token-level uncertainty and beyond", put through exp so that each lies in 0 to 1. No rule is best
everywhere: calibration picks one for a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

Scorer: TypeAlias = Callable[[Sequence[float]], float]
"""(log-probabilities of the tokens, at least one) → log-confidence."""


def _chow_average(logprobs: Sequence[float]) -> float:
    return math.fsum(logprobs) / len(logprobs)


def _first_token(logprobs: Sequence[float]) -> float:
    return logprobs[0]


SCORERS: Final[Mapping[str, Scorer]] = {
    "chow_sum": math.fsum,
    "chow_average": _chow_average,
    "chow_minimum": min,
    "first_token": _first_token,
}
"""Scorers by the name that a calibration carries: the probability of the whole answer, the geometric mean of its tokens'
probabilities, the least probable token, the first token."""

DEFAULT_SCORER: Final = "chow_sum"
"""Used where no calibration chose another: the probability that the model gives to the whole answer."""


def confidence(logprobs: Sequence[float], scorer: str = DEFAULT_SCORER) -> float | None:
    """Score an answer.

    Args:
        logprobs: Raw log-probability of each emitted token, the end token included.
        scorer: A key of ``SCORERS``.

    Returns:
        A number in 0 to 1, or None where there is no token or a log-probability is not a number: better none than a made-up one.
    """
    if not logprobs or any(map(math.isnan, logprobs)):
        return None
    # Rounding may leave a log-probability a hair above zero.
    return math.exp(min(0.0, SCORERS[scorer](logprobs)))

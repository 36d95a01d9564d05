"""Guarantees: the loosest threshold of confidence at which a risk is still shown to be kept, from a finite number of answers.

Learn-then-Test (Angelopoulos et al. 2021, "Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control") with
fixed-sequence testing: thresholds are tried strictest first, in an order that comes from other rows, for as long as a p-value
rejects that the risk among the answers served is above the one allowed. Conformal risk control (Angelopoulos et al. 2022) as an
option.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.errors import CalibrationError
from pocketseq.manifest import Guarantee

_STEPS: Final = 50
"""Candidate thresholds: fewer give away coverage, more give chance more occasions to stop the sequence early."""
_FINEST_RISK: Final = 0.001


@dataclass(frozen=True, slots=True)
class Rows:
    """Answers by confidence, surest first: what is served above a threshold is the beginning."""

    confidences: NDArray[np.float64]
    """Falling."""
    lost: NDArray[np.float64]
    """Sum of the losses of the first answers: entry n is that of the first n."""

    @classmethod
    def of(cls, confidences: NDArray[np.float64], losses: NDArray[np.float64]) -> Rows:
        """Sort answers.

        Args:
            confidences: float64 [rows].
            losses: float64 [rows], 0 to 1.
        """
        order = np.argsort(-confidences, kind="stable")
        return cls(confidences[order], np.append(0.0, np.cumsum(losses[order])))

    def served(self, threshold: float) -> int:
        """How many answers have at least this confidence."""
        return int(np.searchsorted(-self.confidences, -threshold, side="right"))


def p_value(lost: float, served: int, *, risk: float, guarantee: Guarantee) -> float:
    """How likely so little loss would be were the true risk above ``risk``: an upper bound.

    ``binomial`` is P[Bin(n, risk) ≤ errors]. ``hoeffding-bentkus`` is min(exp(−n · h(r, risk)), e · P[Bin(n, risk) ≤ ⌈n · r⌉]),
    with r the mean loss where it is below the risk, and h(a, b) = a log(a/b) + (1−a) log((1−a)/(1−b)); Bates et al. 2021,
    "Distribution-Free, Risk-Controlling Prediction Sets", section 3.1.

    Args:
        lost: Sum of the losses of the answers served.
        served: Their number.
        risk: Mean loss allowed among them.
        guarantee: Which bound; ``conformal`` has none.
    """
    if guarantee == "binomial":
        return binomial_cdf(round(lost), served, risk)
    if not served:
        return 1.0
    mean = min(lost / served, risk)
    divergence = (mean * math.log(mean / risk) if mean else 0.0) + (1 - mean) * math.log((1 - mean) / (1 - risk))
    # Sums of fractions round: a hair above a whole number is that number.
    bentkus = math.e * binomial_cdf(math.ceil(lost - 1e-9), served, risk)
    return min(1.0, math.exp(-served * divergence), bentkus)


def choose_threshold(
    rows: Rows, *, candidates: Sequence[float], risk: float, delta: float, guarantee: Guarantee = "binomial"
) -> float | None:
    """Loosen the threshold along the candidates for as long as the answers served are shown to keep the promise.

    Args:
        rows: Answers whose loss is known.
        candidates: Thresholds, strictest first; they must not come from these rows. ``conformal`` needs none.
        risk: Largest mean loss: among those served, or for ``conformal`` among all.
        delta: Probability that the promise does not hold.
        guarantee: Which promise.

    Returns:
        The loosest threshold before the first failure, or None where already the first fails.
    """
    if guarantee == "conformal":
        return _conformal(rows, risk)
    chosen = None
    for threshold in candidates:
        served = rows.served(threshold)
        if p_value(rows.lost[served], served, risk=risk, guarantee=guarantee) > delta:
            break
        chosen = threshold
    return chosen


def candidates(rows: Rows, *, risk: float, guarantee: Guarantee = "binomial") -> list[float]:
    """Thresholds that serve more and more of these rows, from the one that these rows believe in most.

    A start at the very strictest would fail for want of answers, however right they are.

    Args:
        rows: Other answers than those that the thresholds will be tested on.
        risk: Largest mean loss among those served.
        guarantee: Which promise.
    """
    bound: Guarantee = "binomial" if guarantee == "conformal" else guarantee
    places = np.linspace(0, len(rows.confidences) - 1, _STEPS + 1).astype(int)
    thresholds = np.unique(rows.confidences[places])[::-1].tolist()
    served = [rows.served(threshold) for threshold in thresholds]
    doubts = [p_value(rows.lost[count], count, risk=risk, guarantee=bound) for count in served]
    return [float(threshold) for threshold in thresholds[doubts.index(min(doubts)) :]]


def smallest_risk(choosing: Rows, testing: Rows, *, delta: float, guarantee: Guarantee) -> float | None:
    """The smallest risk, to a thousandth, that these rows show to be kept by serving something; None where none is.

    It is found on the very rows that test it. Whoever then asks for it on the same rows has chosen among many promises, and should
    confirm it on fresh ones.

    Args:
        choosing: Rows that the candidates come from.
        testing: Rows that test them.
        delta: Probability that the promise does not hold.
        guarantee: Which promise.
    """

    def kept(risk: float) -> bool:
        found = choose_threshold(
            testing, candidates=candidates(choosing, risk=risk, guarantee=guarantee), risk=risk, delta=delta, guarantee=guarantee
        )
        return found is not None and testing.served(found) > 0

    low, high = 0, round(1 / _FINEST_RISK) - 1
    if not kept(high * _FINEST_RISK):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if kept(middle * _FINEST_RISK) else (middle, high)
    return round(high * _FINEST_RISK, 3)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P[Bin(n, p) ≤ k], exact up to rounding.

    Args:
        k: Successes at most.
        n: Trials.
        p: Probability of a success, between 0 and 1.
    """
    if k >= n:
        return 1.0
    factorials = _log_factorials(n)
    i = np.arange(k + 1)
    terms = factorials[n] - factorials[i] - factorials[n - i] + i * math.log(p) + (n - i) * math.log1p(-p)
    return min(1.0, float(np.exp(terms).sum()))


def check_promise(*, risk: float, delta: float) -> None:
    """Refuse settings out of range.

    Raises:
        CalibrationError: ``risk`` or ``delta`` not between 0 and 1.
    """
    for name, value in (("risk", risk), ("delta", delta)):
        if not 0 < value < 1:
            raise CalibrationError(f"{name}: expected a number between 0 and 1, found {value!r}")


def _conformal(rows: Rows, risk: float) -> float | None:
    """The loosest threshold τ with (n · R(τ) + 1) / (n + 1) ≤ risk, R the share of all rows that is served and lost."""
    count = len(rows.confidences)
    # Only where a run of equal confidences ends: they are served together.
    last = np.append(rows.confidences[1:] != rows.confidences[:-1], True)
    kept = ((rows.lost[1:] + 1) / (count + 1) <= risk) & last
    return float(rows.confidences[kept.nonzero()[0][-1]]) if kept.any() else None


_FACTORIALS: list[NDArray[np.float64]] = [np.zeros(1)]
"""Logarithms of factorials so far, in one array that grows."""


def _log_factorials(n: int) -> NDArray[np.float64]:
    if len(_FACTORIALS[0]) <= n:
        _FACTORIALS[0] = np.append(0.0, np.cumsum(np.log(np.arange(1, max(2 * n, 1024) + 1))))
    return _FACTORIALS[0]

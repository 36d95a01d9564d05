"""Intervals by bootstrap, over rounds rather than single samples: what disturbs a machine lasts longer than one of them.

Efron 1979, "Bootstrap Methods: Another Look at the Jackknife"; the percentile interval of the resampled medians. Of few rounds it
is too narrow, since they spread less about their own middle than about the true one: so it is expanded to what a t distribution
asks for (Hesterberg 2015, "What Teachers Should Know About the Bootstrap": the expanded percentile interval).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import atan, cos, pi, sin, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketseq_bench.row import Samples

Rounds = Sequence[Sequence[float]]
"""Samples by round; rounds without samples do not count."""

DRAWS: Final = 500
"""Times that is drawn at least."""
_DRAWN: Final = 20_000
"""Rounds drawn at least: of few rounds the ends of the interval lie farther out among the draws."""
LEVEL: Final = 0.95
FEWEST: Final = 5
"""Rounds from which two percentiles can be told apart; of fewer so few are other ones that chance looks like a difference."""
_MOST: Final = 4_000_000
"""Numbers drawn at once at most, for the sake of small devices."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95% interval."""

    value: float
    low: float
    high: float
    p: float = 1.0
    """Two-sided probability of so large a difference by chance; 1 where nothing is compared, or too little to tell."""

    @property
    def spread(self) -> float:
        """Farther end of the interval, as a share of the estimate."""
        return max(self.high - self.value, self.value - self.low) / self.value if self.value else 0.0


def samples(rounds: Rounds) -> Samples:
    """Percentiles and interval of samples in milliseconds.

    Args:
        rounds: At least one sample.
    """
    every = np.concatenate([np.asarray(turn, dtype=float) for turn in rounds])
    p50, p90, p95, p99 = (round(float(value), 4) for value in np.percentile(every, (50, 90, 95, 99)))
    interval = median_interval(rounds)
    kept = tuple(tuple(round(float(value), 4) for value in turn) for turn in rounds if len(turn))
    return Samples(p50, p90, p95, p99, low=round(interval.low, 4), high=round(interval.high, 4), rounds=kept)


def median_interval(rounds: Rounds, *, seed: int = 0) -> Interval:
    """The median of all samples, and where it may lie.

    A single round is resampled sample by sample, which is all that can be done, and too narrow on a noisy machine.
    """
    turns = _turns(rounds)
    medians = _resampled_medians(turns, np.random.default_rng(seed))
    low, high = np.quantile(medians, _ends(len(turns)))
    return Interval(float(np.median(np.concatenate([np.asarray(turn) for turn in rounds]))), float(low), float(high))


def ratio_interval(before: Rounds, after: Rounds, *, percent: float = 50, seed: int = 0) -> Interval:
    """A percentile after over the same before, where the ratio may lie, and how easily chance would make it differ from 1.

    With fewer than ``FEWEST`` rounds on either side (samples, where there is one round) any difference may be chance.

    Args:
        before: Samples by round.
        after: Samples by round.
        percent: Which percentile.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    earlier, later = _turns(before), _turns(after)
    draws = max(_draws(earlier), _draws(later))
    ratios = _resampled_medians(later, rng, percent, draws=draws) / _resampled_medians(earlier, rng, percent, draws=draws)
    fewest = min(len(earlier), len(later))
    low, high = np.quantile(ratios, _ends(fewest))
    value = np.percentile(np.concatenate([np.asarray(turn) for turn in after]), percent)
    value = value / np.percentile(np.concatenate([np.asarray(turn) for turn in before]), percent)
    # One more of each side: a share of none among so many draws does not prove that there is no chance.
    beyond = (min(int((ratios <= 1).sum()), int((ratios >= 1).sum())) + 1) / (len(ratios) + 1)
    p = 1.0 if fewest < FEWEST else 2 * _by_chance(min(beyond, 0.5), fewest)
    return Interval(float(value), float(low), float(high), p=p)


def _turns(rounds: Rounds) -> list[NDArray[np.float64]]:
    """What is drawn from: rounds, or the samples of a single one."""
    turns = [np.asarray(turn, dtype=float) for turn in rounds if len(turn)]
    return list(turns[0][:, None]) if len(turns) == 1 else turns


def _resampled_medians(
    turns: Sequence[NDArray[np.float64]], rng: np.random.Generator, percent: float = 50, *, draws: int = 0
) -> NDArray[np.float64]:
    draws = draws or _draws(turns)
    longest = max(len(turn) for turn in turns)
    table = np.full((len(turns), longest), np.nan)
    for place, turn in enumerate(turns):
        table[place, : len(turn)] = turn
    even = all(len(turn) == longest for turn in turns)
    percentiles = partial(np.percentile, q=percent, axis=1) if even else partial(_percentiles, percent=percent)
    at_once = max(1, _MOST // table.size)
    parts = []
    for first in range(0, draws, at_once):
        chosen = rng.integers(0, len(turns), (min(at_once, draws - first), len(turns)))
        parts.append(percentiles(table[chosen].reshape(len(chosen), -1)))
    return np.concatenate(parts)


def _percentiles(table: NDArray[np.float64], percent: float) -> NDArray[np.float64]:
    """A percentile of each row, as ``np.nanpercentile`` takes it, which goes through the rows in Python.

    Args:
        table: float64 [rows, samples], NaN where there is none; no row is of NaN alone.
        percent: Which percentile.
    """
    ordered, rows = np.sort(table, axis=1), np.arange(len(table))  # NaN last
    last = (~np.isnan(ordered)).sum(axis=1) - 1
    place = last * (percent / 100)
    below = np.floor(place).astype(int)
    low, high = ordered[rows, below], ordered[rows, np.minimum(below + 1, last)]
    return np.asarray(low + (high - low) * (place - below))


def _draws(turns: Sequence[NDArray[np.float64]]) -> int:
    return max(DRAWS, _DRAWN // len(turns))


@cache
def _ends(rounds: int) -> tuple[float, float]:
    """Shares of the draws below the ends of the interval."""
    low, high = 0.0, 0.5
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _by_chance(middle, rounds) < (1 - LEVEL) / 2 else (low, middle)
    return high, 1 - high


def _by_chance(share: float, rounds: int) -> float:
    """How probable it is that what so small a share of the draws lies beyond is beyond by chance.

    Args:
        share: Above 0, at most a half.
        rounds: How many were drawn from.
    """
    degrees = rounds - 1
    return _student(NormalDist().inv_cdf(share) * sqrt(degrees / rounds), degrees) if degrees else share


def _student(t: float, degrees: int) -> float:
    """Share of the t distribution below a number (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4, which want whole degrees)."""
    angle, odd = atan(t / sqrt(degrees)), degrees % 2
    total, term = 0.0, cos(angle) if odd else 1.0
    for number in range(odd, degrees - 1, 2):
        total += term
        term *= (number + 1) / (number + 2) * cos(angle) ** 2
    within = 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
    return (1 + within) / 2

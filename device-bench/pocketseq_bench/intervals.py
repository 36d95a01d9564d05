"""Intervals by bootstrap, over rounds rather than single samples: what disturbs a machine lasts longer than one of them.

Efron 1979, "Bootstrap Methods: Another Look at the Jackknife"; the percentile interval of the resampled medians.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketseq_bench.row import Samples

Rounds = Sequence[Sequence[float]]
"""Samples by round; rounds without samples do not count."""

DRAWS: Final = 500
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
    medians = _resampled_medians(_turns(rounds), np.random.default_rng(seed))
    low, high = np.quantile(medians, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
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
    ratios = _resampled_medians(later, rng, percent) / _resampled_medians(earlier, rng, percent)
    low, high = np.quantile(ratios, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    value = np.percentile(np.concatenate([np.asarray(turn) for turn in after]), percent)
    value = value / np.percentile(np.concatenate([np.asarray(turn) for turn in before]), percent)
    # One more of each side: a share of none among so many draws does not prove that there is no chance.
    beyond = min(int((ratios <= 1).sum()), int((ratios >= 1).sum())) + 1
    p = 1.0 if min(len(earlier), len(later)) < FEWEST else min(1.0, 2 * beyond / (len(ratios) + 1))
    return Interval(float(value), float(low), float(high), p=p)


def _turns(rounds: Rounds) -> list[NDArray[np.float64]]:
    """What is drawn from: rounds, or the samples of a single one."""
    turns = [np.asarray(turn, dtype=float) for turn in rounds if len(turn)]
    return list(turns[0][:, None]) if len(turns) == 1 else turns


def _resampled_medians(turns: Sequence[NDArray[np.float64]], rng: np.random.Generator, percent: float = 50) -> NDArray[np.float64]:
    longest = max(len(turn) for turn in turns)
    table = np.full((len(turns), longest), np.nan)
    for place, turn in enumerate(turns):
        table[place, : len(turn)] = turn
    even = all(len(turn) == longest for turn in turns)
    percentile = np.percentile if even else np.nanpercentile
    at_once = max(1, _MOST // table.size)
    parts = []
    for first in range(0, DRAWS, at_once):
        chosen = rng.integers(0, len(turns), (min(at_once, DRAWS - first), len(turns)))
        parts.append(percentile(table[chosen].reshape(len(chosen), -1), percent, axis=1))
    return np.concatenate(parts)

"""Ratios of what took turns: round by round, in each of which both met about the same machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pocketseq_bench.intervals import Interval, median_interval

CLOCKS: Final = ("wall_s", "cpu_s")
"""Of a contender's run: by processor time a busy machine moves it less."""


def paired(over: Iterable[float], under: Iterable[float]) -> Interval:
    """The median of the ratios of all rounds, and where it may lie; a single round tells of no interval.

    Args:
        over: One number for each round.
        under: The other's, of the same rounds.
    """
    return median_interval([[one / other] for one, other in zip(over, under, strict=True)])


def ours_over_theirs(
    ours: str, runs: Mapping[str, Sequence[Mapping[str, float]]], tokens: Mapping[str, int]
) -> dict[str, dict[str, Interval]]:
    """Our tokens a second over those of each other contender, by clock.

    Args:
        ours: Name of our contender; there are no ratios where it was not timed.
        runs: Seconds of each contender's runs by clock, in the order of the rounds.
        tokens: Of all answers of one run.
    """
    if ours not in runs:
        return {}
    return {
        name: {
            clock: paired(
                (tokens[ours] * run[clock] for run in taken),
                (tokens[name] * run[clock] for run in runs[ours]),
            )
            for clock in CLOCKS
        }
        for name, taken in runs.items()
        if name != ours
    }


def interval_json(found: Interval) -> dict[str, Any]:
    """A ratio with its 95% interval, as documents have it."""
    return {"value": round(found.value, 3), "low": round(found.low, 3), "high": round(found.high, 3)}

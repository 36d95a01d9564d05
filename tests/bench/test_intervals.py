"""Intervals of medians and of ratios, bootstrapped over rounds."""

from __future__ import annotations

from cProfile import Profile
from pstats import Stats

import numpy as np
import pytest

from pocketseq_bench.intervals import _ends, median_interval, ratio_interval, samples


def rounds(middle: float, noise: float, *, drift: float = 0.0, seed: int = 0, count: int = 30) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    return [(middle + drift * rng.normal() + noise * rng.normal(size=20)).tolist() for _ in range(count)]


def test_percentiles_are_interpolated_and_raw_samples_kept_by_round() -> None:
    """By hand: 1 to 5."""
    found = samples([[4.0, 1.0], [], [2.0, 3.0, 5.0]])
    assert (found.p50, found.p90, found.p95, found.p99) == (3.0, 4.6, 4.8, 4.96)
    assert found.rounds == ((4.0, 1.0), (2.0, 3.0, 5.0))


def test_constant_samples_have_no_interval() -> None:
    """Nothing varies, nothing is uncertain."""
    interval = median_interval([[2.0, 2.0]] * 4)
    assert (interval.low, interval.value, interval.high, interval.spread) == (2.0, 2.0, 2.0, 0.0)


def test_the_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    """Nineteen times in twenty over rounds that are disturbed as a whole; resampling single samples would claim far more."""
    held = [
        interval.low <= 10 <= interval.high
        for seed in range(60)
        for interval in [median_interval(rounds(10, 0.2, drift=0.5, seed=seed), seed=seed)]
    ]
    assert sum(held) >= 52


def test_few_rounds_promise_no_more_than_many() -> None:
    """Five to eight, disturbed as a whole: the interval holds the true median about as often as it says, and two runs of one thing
    are called different no oftener than that.
    """
    held, alarms = [], []
    for seed in range(180):
        count = 5 + seed % 4
        one, other = (rounds(10, 0.5, drift=0.3, seed=start + seed, count=count) for start in (0, 1000))
        interval = median_interval(one, seed=seed)
        held.append(interval.low <= 10 <= interval.high)
        alarms.append(ratio_interval(one, other, seed=seed).p < 0.05)
    assert sum(held) >= 0.9 * len(held)
    assert sum(alarms) <= 0.05 * len(alarms)


def test_rounds_that_differ_widen_the_interval() -> None:
    """The same samples, shuffled over the rounds, look more certain than they are."""
    disturbed = rounds(10, 0.1, drift=1.0)
    every = np.random.default_rng(1).permutation(np.concatenate(disturbed)).reshape(30, 20).tolist()
    assert median_interval(disturbed).spread > 2 * median_interval(every).spread


def test_a_ratio_tells_a_difference_from_chance() -> None:
    """A tenth slower is seen, the same again is not."""
    before = rounds(10, 0.5, drift=0.2, seed=1)
    slower = ratio_interval(before, rounds(11, 0.5, drift=0.2, seed=2))
    same = ratio_interval(before, rounds(10, 0.5, drift=0.2, seed=3))
    assert 1.05 < slower.low < slower.value < slower.high < 1.15
    assert slower.p < 0.01
    assert same.p > 0.05


def test_of_a_few_rounds_any_difference_may_be_chance() -> None:
    """One process started three times, and again: a difference of what is alike would be taken for one every tenth time."""
    few = [[100.0], [101.0], [99.0], [100.0]]
    for before, after in ((few[:1], [[200.0]]), (few, [[200.0]] * 9), ([[100.0]] * 9, [[200.0, 201.0, 199.0]])):
        found = ratio_interval(before, after)
        assert found.value == pytest.approx(2)
        assert found.p == 1
    assert ratio_interval([*few, [102.0]], [[200.0], [201.0], [199.0], [202.0], [200.0]]).p < 0.05


def test_uneven_rounds_and_a_single_one_are_taken_too() -> None:
    """The last turn of a pass is shorter; an interrupted run may have one turn only."""
    assert median_interval([[1.0, 2.0, 3.0], [2.0]]).value == 2.0
    one = median_interval([[1.0, 2.0, 3.0]])
    assert 1.0 <= one.low < one.high <= 3.0


def test_uneven_rounds_are_resampled_all_at_once() -> None:
    """As numpy takes a percentile where samples are missing, which goes through the draws in Python: this is asked between
    the turns of a benchmark.
    """
    rng = np.random.default_rng(1)
    uneven = [list(rng.normal(10, 1, count)) for count in (1, 9, 8, 5)]
    table = np.full((4, 9), np.nan)
    for place, turn in enumerate(uneven):
        table[place, : len(turn)] = turn
    draws = table[np.random.default_rng(3).integers(0, 4, (5000, 4))].reshape(5000, -1)
    for percent in (0, 50, 95, 100):
        profile = Profile()
        found = profile.runcall(ratio_interval, [[2.0]] * 4, uneven, percent=percent, seed=3)
        assert Stats(profile).total_calls < len(draws)  # type: ignore[attr-defined]
        ratios = np.nanpercentile(draws, percent, axis=1) / 2
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(ratios, _ends(4))))

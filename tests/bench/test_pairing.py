"""Ratios of what took turns: rounds made by hand, small enough to check."""

from __future__ import annotations

from pocketseq_bench.pairing import interval_json, ours_over_theirs, paired


def runs(*seconds: float) -> list[dict[str, float]]:
    return [{"wall_s": each, "cpu_s": each / 2} for each in seconds]


def test_a_round_that_was_disturbed_moves_no_ratio() -> None:
    """Both took ten times as long in it: medians of each apart would not meet, the ratio of every round is the same."""
    found = paired([2.0, 20.0, 2.0], [1.0, 10.0, 1.0])
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)
    apart = paired([2.0, 20.0, 20.0], [1.0, 1.0, 10.0])
    assert apart.value == 2.0
    assert apart.high == 20.0


def test_a_single_round_tells_of_no_interval() -> None:
    """Nothing is known of how another would be."""
    assert paired([3.0], [2.0]).spread == 0


def test_ours_over_theirs_is_of_tokens_by_time() -> None:
    """Twice the tokens in half the time are four times as fast."""
    taken = {"ours": runs(1.0, 2.0), "other": runs(2.0, 4.0)}
    found = ours_over_theirs("ours", taken, {"ours": 20, "other": 10})
    assert list(found) == ["other"]
    assert interval_json(found["other"]["wall_s"]) == {"value": 4.0, "low": 4.0, "high": 4.0}
    assert found["other"]["cpu_s"].value == 4.0


def test_without_a_time_of_ours_there_is_no_ratio() -> None:
    """As where our answers were other ones."""
    assert ours_over_theirs("ours", {"other": runs(1.0)}, {"other": 3}) == {}

"""Latencies: what counts as a sample, and percentiles."""

from __future__ import annotations

from pocketseq_bench.latency import Latency, time_calls


def test_the_warm_up_is_called_but_not_counted() -> None:
    """Two warm-up calls on the first items, then one sample and one answer for each item, in order."""
    calls: list[int] = []
    done: list[int] = []

    def double(item: int) -> int:
        calls.append(item)
        return 2 * item

    timed = time_calls(double, [1, 2, 3], warmup=2, progress=done.append)
    assert calls == [1, 2, 1, 2, 3]
    assert timed.answers == (2, 4, 6)
    assert len(timed.latency.samples_ms) == 3
    assert done == [1, 2, 3]


def test_percentiles_lie_between_samples() -> None:
    """The median of an even number of samples is the mean of the middle two."""
    latency = Latency((4.0, 1.0, 2.0, 3.0), warmup=1)
    assert latency.to_json() == {"p50": 2.5, "p95": 3.85, "warmup": 1, "samples": [4.0, 1.0, 2.0, 3.0]}

"""Latencies: raw samples, and the percentiles that people read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np

FINE_PROCESSOR_CLOCK: Final = time.get_clock_info("process_time").resolution <= 1e-4
"""Whether the processor time of a single call can be read; Windows counts in steps of 15.6 ms."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one thing took, again and again."""

    samples_ms: tuple[float, ...]
    """Every measured call in the order in which it was made, warm-up not included."""
    warmup: int
    """Calls made before the first sample."""
    processor_ms: tuple[float, ...] = ()
    """Time on a processor of each of these calls, all threads together: what a neighbour takes is not in it."""

    def percentile_ms(self, percent: float) -> float:
        """The latency that this share of the calls stayed within, interpolated between samples."""
        return round(float(np.percentile(self.samples_ms, percent)), 3)

    def to_json(self) -> dict[str, Any]:
        """Percentiles first, then the samples that they come from."""
        return {
            "p50": self.percentile_ms(50),
            "p95": self.percentile_ms(95),
            "warmup": self.warmup,
            "samples": [round(sample, 3) for sample in self.samples_ms],
        }


@dataclass(frozen=True, slots=True)
class Timed(Generic[Answer]):
    """What calls returned and how long they took."""

    answers: tuple[Answer, ...]
    """One for each item, in order."""
    latency: Latency
    """One sample for each item, in order."""


def time_calls(
    call: Callable[[Item], Answer], items: Sequence[Item], *, warmup: int, progress: Callable[[int], None] | None = None
) -> Timed[Answer]:
    """Time one call for each item, one after another.

    Args:
        call: What is measured.
        items: Its arguments, at least one; the first few are used for the warm-up too.
        warmup: Calls before the first that counts.
        progress: Called with the number of items done, outside the time that is measured.
    """
    for number in range(warmup):
        call(items[number % len(items)])
    answers, samples, spent = [], [], []
    for number, item in enumerate(items, start=1):
        before = time.process_time()
        started = time.perf_counter()
        answer = call(item)
        samples.append(1000 * (time.perf_counter() - started))
        spent.append(1000 * (time.process_time() - before))
        answers.append(answer)
        if progress is not None:
            progress(number)
    return Timed(tuple(answers), Latency(tuple(samples), warmup, tuple(spent)))

"""Latencies: raw samples, and the percentiles that people read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one thing took, again and again."""

    samples_ms: tuple[float, ...]
    """Every measured call in the order in which it was made, warm-up not included."""
    warmup: int
    """Calls made before the first sample."""

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


def time_calls(call: Callable[[Item], object], items: Sequence[Item], *, warmup: int) -> Latency:
    """Time one call for each item, one after another.

    Args:
        call: What is measured.
        items: Its arguments, at least one; the first few are used for the warm-up too.
        warmup: Calls before the first that counts.
    """
    for number in range(warmup):
        call(items[number % len(items)])
    samples = []
    for item in items:
        started = time.perf_counter()
        call(item)
        samples.append(1000 * (time.perf_counter() - started))
    return Latency(tuple(samples), warmup)

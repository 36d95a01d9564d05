"""Measuring the variants of a bundle: quality beside speed, on the very files that ship."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pocketseq import PocketModel
from pocketseq.bundle import open_bundle
from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.manifest import Variant
from pocketseq.metrics import RowMetrics, evaluate_rows
from pocketseq.pipeline.progress import Progress
from pocketseq.records import plain
from pocketseq_bench.environment import environment
from pocketseq_bench.latency import Latency, time_calls
from pocketseq_bench.startup import Startup, measure_startup

FORMAT: Final = 1
THREADS: Final = 1
"""Small models are fastest on one, and an app has other work for the rest."""


@dataclass(frozen=True, slots=True)
class VariantMeasurement:
    """One variant on this machine."""

    variant: Variant
    """As the manifest describes it."""
    quality: RowMetrics
    """Over the rows."""
    latency: Latency
    """Of one suggestion end to end, one sample for each row."""
    startup: Startup
    """Of a fresh process."""

    def to_json(self) -> dict[str, Any]:
        """The measurement as JSON values."""
        return {
            "runtime": self.variant.runtime,
            "precision": self.variant.precision,
            "hash": self.variant.hash,
            "size_bytes": self.variant.size_bytes,
            "threads": THREADS,
            "n": self.quality.n,
            "quality": plain(self.quality),
            "latency_ms": self.latency.to_json(),
            "startup_ms": plain(self.startup),
            "parity": plain(self.variant.parity),
        }


def measure_bundle(source: str | Path, rows: Sequence[Example], *, warmup: int) -> dict[str, Any]:
    """Measure every variant of a bundle, one after another.

    Args:
        source: What ``PocketModel.load`` takes.
        rows: Labelled rows, at least one.
        warmup: Suggestions before the first that counts.

    Returns:
        The content of ``bench.json``: full precision first, the smallest variant last.

    Raises:
        BundleError: the bundle cannot be used.
        DataError: no rows.
    """
    if not rows:
        raise DataError("expected rows to measure on, found none")
    with open_bundle(source) as bundle:
        manifest = bundle.manifest
    variants = sorted(manifest.variants, key=lambda variant: -variant.size_bytes)
    measured = [
        measure_variant(source, variant, rows, warmup=warmup, progress=Progress(f"bench {variant.label}", len(rows)))
        for variant in variants
    ]
    return {
        "format": FORMAT,
        "bundle": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "environment": environment(),
        "variants": [measurement.to_json() for measurement in measured],
    }


def measure_variant(
    source: str | Path, variant: Variant, rows: Sequence[Example], *, warmup: int, progress: Callable[[int], None] | None = None
) -> VariantMeasurement:
    """Let one variant answer labelled rows one by one, as an editor would ask.

    Args:
        source: What ``PocketModel.load`` takes.
        variant: Which of its variants.
        rows: Labelled rows, at least one.
        warmup: Suggestions before the first that counts.
        progress: Called with the number of rows answered.
    """
    startup = measure_startup(str(source), runtime=variant.runtime, precision=variant.precision, fields=rows[0].fields)
    with PocketModel.load(source, runtime=variant.runtime, precision=variant.precision, threads=THREADS) as model:
        timed = time_calls(lambda row: model.generate(row.fields).text, rows, warmup=warmup, progress=progress)
        quality = evaluate_rows(rows, timed.answers, primary=model.template.primary)
    return VariantMeasurement(variant=variant, quality=quality, latency=timed.latency, startup=startup)

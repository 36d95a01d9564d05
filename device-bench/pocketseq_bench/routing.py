"""What routing adds to a local suggestion: the share of ``Hybrid.suggest`` that is spent outside the model.

    python -m pocketseq_bench.routing [BUNDLE] [--inputs ROWS.jsonl] [--rounds N] [-o FILE]

The model really runs, is timed inside every suggestion, and is taken off. A cloud stands ready; gate, threshold and cache are
looked at, and the local answer is served every time. Three hybrids take turns on the same rows: one for which OpenTelemetry has no
SDK, one with a tracer, and one with a tracer and a meter, whose spans a thread serialises and drops as an exporter would. Told are
percentiles over all suggestions, by wall clock and by the thread's processor time: the first holds what other threads and programs
take, the second what is done for the suggestion itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketseq import Hybrid, PocketModel, Policy
from pocketseq.errors import DataError, MissingExtraError, PocketSeqError
from pocketseq.results import Result
from pocketseq.telemetry import Telemetry
from pocketseq.template import Input, Template
from pocketseq.testing import FakeEndpoint
from pocketseq_bench.environment import environment
from pocketseq_bench.instrument import check_enough, measure_bundle
from pocketseq_bench.measuring.inputs import BenchInputs

FORMAT: Final = 1
ROUNDS: Final = 20
WARMUP: Final = 16
"""Rows that are asked before the others and not counted."""
EXPORT_INTERVAL_MS: Final = 1000
"""How often metrics are collected."""
_CLOCKS: Final[Mapping[str, Callable[[], float]]] = {"wall": time.perf_counter, "cpu": time.thread_time}


class TimedModel:
    """A model that remembers what its last answer took, by every clock."""

    def __init__(self, model: PocketModel) -> None:
        """Wrap a model."""
        self._model = model
        self.manifest = model.manifest
        self.spent: dict[str, float] = {}
        """Seconds of the last answer, by clock."""

    @property
    def template(self) -> Template:
        """How an input is read."""
        return self._model.template

    @property
    def calibration(self) -> Any:
        """Threshold made on this very model."""
        return self._model.calibration

    def generate(
        self, source: Input, /, *, deadline_s: float | None = None, on_gate: Callable[[float], None] | None = None
    ) -> Result:
        """Answer one input, timed."""
        began = {name: now() for name, now in _CLOCKS.items()}
        try:
            return self._model.generate(source, deadline_s=deadline_s, on_gate=on_gate)
        finally:
            self.spent = {name: now() - began[name] for name, now in _CLOCKS.items()}

    def stream(self, source: Input, /, **options: Any) -> Any:
        """Not timed."""
        return self._model.stream(source, **options)


def routing(source: str | Path, inputs: BenchInputs, *, precision: str | None = None, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure local suggestions, one at a time.

    Args:
        source: See ``PocketModel.load``.
        inputs: More than ``WARMUP`` of them.
        precision: Of the variant; None takes the bundle's first that fits.
        rounds: How often each row is suggested to, by each hybrid.

    Returns:
        JSON values: for each telemetry and each clock the milliseconds that routing took.

    Raises:
        MissingExtraError: OpenTelemetry's SDK is not installed.
        DataError: too few inputs, or too few that differ from the one before.
        InputError: not one round.
    """
    check_enough(inputs, warmup=WARMUP, rounds=rounds)
    rows = [row.fields for row in inputs.rows]
    # The least that is still looked at: every confidence suffices, no gate asks ahead, and of answers one alone is kept.
    policy = Policy(threshold=0.0, hedge_below=0.0, cache_size=1)
    endpoint = FakeEndpoint("never asked")
    with ExitStack() as stack:
        opened = stack.enter_context(PocketModel.load(source, precision=precision))
        model, manifest, variant = TimedModel(opened), opened.manifest, opened.variant
        heard = {
            "none": Telemetry(),
            "spans": _listened_to(stack, metrics=False),
            "spans and metrics": _listened_to(stack, metrics=True),
        }
        hybrids = {name: Hybrid(model, endpoint, policy, telemetry=telemetry) for name, telemetry in heard.items()}
        taken: dict[str, dict[str, list[float]]] = {name: {clock: [] for clock in _CLOCKS} for name in hybrids}
        for row in rows[:WARMUP]:
            for hybrid in hybrids.values():
                hybrid.suggest(row)
        for number in range(rounds):
            for place, row in enumerate(rows[WARMUP:]):
                # Another one begins each time: the first of a row finds it new.
                first = (number + place) % len(hybrids)
                for name in [*hybrids][first:] + [*hybrids][:first]:
                    began = {clock: now() for clock, now in _CLOCKS.items()}
                    suggestion = hybrids[name].suggest(row)
                    spent = {clock: now() - began[clock] - model.spent[clock] for clock, now in _CLOCKS.items()}
                    if suggestion.source != "cache":  # the model was not asked, and what it spent last was for another row
                        for clock, seconds in spent.items():
                            taken[name][clock].append(seconds)
    if endpoint.calls:
        raise PocketSeqError(f"expected local suggestions only, found {len(endpoint.calls)} that asked the cloud")
    counted = min(len(found["wall"]) for found in taken.values())
    if counted < rounds:
        raise DataError(
            f"{inputs.origin}: expected rows that differ from the one before, found {counted} suggestions in {rounds} rounds that "
            "did not come from the cache; give more rows"
        )
    return {
        "format": FORMAT,
        "bundle": manifest.name,
        "variant": variant.label,
        "hash": variant.hash,
        "rows": len(rows) - WARMUP,
        "rounds": rounds,
        "inputs": inputs.origin,
        "environment": environment(),
        "routing_ms": {name: {clock: _summary(times) for clock, times in found.items()} for name, found in taken.items()},
    }


def _listened_to(stack: ExitStack, *, metrics: bool) -> Telemetry:
    """Telemetry with an SDK that does all that one does for a collector, save to send."""
    try:
        from opentelemetry.metrics import NoOpMeterProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    except ImportError:
        raise MissingExtraError("test", "opentelemetry.sdk") from None

    class Serialising(SpanExporter):
        """Writes spans as JSON and drops them."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            for span in spans:
                span.to_json()
            return SpanExportResult.SUCCESS

    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(Serialising()))
    stack.callback(tracers.shutdown)
    if not metrics:
        return Telemetry(tracer_provider=tracers, meter_provider=NoOpMeterProvider())
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out=StringIO()), export_interval_millis=EXPORT_INTERVAL_MS)
    meters = MeterProvider(metric_readers=[reader])
    stack.callback(meters.shutdown)
    return Telemetry(tracer_provider=tracers, meter_provider=meters)


def _summary(times: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    return {f"p{level}": round(1000 * float(np.percentile(times, level)), 4) for level in (50, 95, 99)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    return measure_bundle(
        arguments,
        routing,
        _lines,
        name="pocketseq_bench.routing",
        summary="What routing adds to a local suggestion.",
        rounds=ROUNDS,
    )


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    for name, clocks in found["routing_ms"].items():
        for clock, one in clocks.items():
            yield f"{name:<18} {clock:<5} p50 {one['p50']:.3f} ms, p95 {one['p95']:.3f} ms, p99 {one['p99']:.3f} ms"


if __name__ == "__main__":
    sys.exit(main())

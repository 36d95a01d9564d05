"""Two benchmarks against each other: what became slower, larger or worse, and whether chance would do the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pocketseq.errors import InputError
from pocketseq_bench.document import BenchDocument
from pocketseq_bench.intervals import Interval, ratio_interval
from pocketseq_bench.row import Row, Samples

SIGNIFICANT: Final = 0.05
"""A difference that chance brings less often than this is taken for one."""

TIMED: Final = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
"""Percentiles of one suggestion end to end; differences are tested on the samples."""

_QUALITY: Final = ("exact_match", "edit_similarity", "chrf", "repaired")
"""Shares over the same inputs."""

_MEASURED: Final[dict[str, Callable[[Row], float | None]]] = {
    "size": lambda row: float(row.size_bytes),
    "memory": lambda row: row.memory.steady_bytes.value if row.memory else None,
    "peak_memory": lambda row: row.memory.peak_bytes.value if row.memory else None,
    **{name: lambda row, name=name: row.quality.get(name) for name in _QUALITY},  # type: ignore[misc]
}
"""Single numbers: the same files and inputs give the same size and quality, so that any difference is one."""

_LOOSE: Final = {"memory": 0.02, "peak_memory": 0.02}
"""Single numbers that differ a little from run to run, and by how much without any reason."""

_STAGED: Final = ("tokenize", "encode", "decode", "detokenize", "per_token")
_STARTED: Final = ("import", "load", "first")
_PROCESSOR: Final = "cpu"
"""Processor time of one suggestion: tested on samples as the latency is, and what neighbours move least."""
_ANY_INPUTS: Final = ("size", "memory", "peak_memory", "import", "load")
"""What does not depend on what is asked, or hardly."""
METRICS: Final = (*TIMED, _PROCESSOR, *_STAGED, *_STARTED, *_MEASURED)
_CONDITION: Final = re.compile(r"\s*(\w+)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True, slots=True)
class Condition:
    """What must not have happened, such as ``p50>+10%``."""

    metric: str
    """One of ``METRICS``."""
    above: bool
    """Whether the change must not be above the limit, or not below it."""
    limit: float
    """Relative change, 0.1 for +10%."""

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises:
            InputError: not of the form ``METRIC>+N%`` or ``METRIC<-N%``, or an unknown metric.
        """
        found = _CONDITION.fullmatch(text)
        if found is None or found[1] not in METRICS:
            raise InputError(f"expected a condition such as 'p50>+10%' with a metric among {', '.join(METRICS)}, found {text!r}")
        return cls(metric=found[1], above=found[2] == ">", limit=float(found[3]) / 100)

    def __str__(self) -> str:
        return f"{self.metric}{'>' if self.above else '<'}{100 * self.limit:+g}%"


@dataclass(frozen=True, slots=True)
class Change:
    """How one metric of one configuration changed."""

    label: str
    metric: str
    before: float | None
    """ms, bytes or a share; None where it was not measured."""
    after: float | None
    ratio: Interval | None
    """After over before; None where one of them is missing, the first is 0, or they are of other inputs."""
    tested: bool
    """Whether the difference was tested on samples; single numbers are taken as they are."""
    machine: float = 1.0
    """How many times as long a fixed loop took after as before: what the machine, not the model, has changed by."""

    @property
    def significant(self) -> bool:
        """Whether it differs, and not by chance."""
        if self.ratio is None:
            return False
        return self.ratio.p < SIGNIFICANT if self.tested else abs(self.ratio.value - 1) > _LOOSE.get(self.metric, 0.0)

    def fails(self, condition: Condition) -> bool:
        """Whether it is what must not have happened: beyond the limit, not by chance, and not because the whole machine changed."""
        if condition.metric != self.metric or self.ratio is None or not self.significant:
            return False
        changes = (self.ratio.value - 1, self.ratio.value / self.machine - 1)
        return min(changes) > condition.limit if condition.above else max(changes) < condition.limit


def compare(before: BenchDocument, after: BenchDocument, metrics: Sequence[str]) -> list[Change]:
    """How metrics changed, for each configuration of the first benchmark that was measured there.

    Times of suggestions and quality are those of certain inputs: over others they have no ratio.

    Args:
        before: The first benchmark.
        after: The second.
        metrics: Among ``METRICS``.
    """
    changes, same = [], before.inputs.hash == after.inputs.hash
    for row in before.rows:
        if row.stages_ms:
            other = after.row(row.label)
            found = [
                _change(row, other if other is not None and other.stages_ms else None, metric, _machine(before, after, metric))
                for metric in metrics
            ]
            changes += [change if same or change.metric in _ANY_INPUTS else replace(change, ratio=None) for change in found]
    return changes


def lost(before: BenchDocument, after: BenchDocument) -> list[str]:
    """Configurations that were measured before and are not any more, with the reason."""
    missing = []
    for row in before.rows:
        other = after.row(row.label)
        if row.stages_ms and (other is None or other.status != "measured"):
            missing.append(f"{row.label}: {'not there' if other is None else f'{other.status}: {other.problem}'}")
    return missing


def cautions(before: BenchDocument, after: BenchDocument) -> list[str]:
    """Why the two may not be comparable."""
    found = []
    if before.device.label != after.device.label or before.device.logical_cores != after.device.logical_cores:
        found.append(f"other machine: {before.device.label}, then {after.device.label}")
    machine = _machine(before, after, "p50")
    if abs(machine - 1) > 0.05:
        found.append(f"a fixed loop took {machine:.2f} times as long after as before: conditions on times allow for that")
    if any((row := after.row(each.label)) is not None and row.quality_n != each.quality_n for each in before.rows):
        found.append("not all inputs were asked both times: quality is not compared there")
    if before.inputs.hash != after.inputs.hash:
        found.append("other inputs: times and quality are not of the same work, and not compared")
    found += [
        f"{name}: {document.conduct.verdict}"
        for name, document in (("before", before), ("after", after))
        if not document.conduct.quiet
    ]
    return found


def _machine(before: BenchDocument, after: BenchDocument, metric: str) -> float:
    """How many times as long a fixed loop took: its median, or its fastest turns where neighbours do not count."""
    one, other = (
        min(ms for turn in loop.rounds for ms in turn) if metric == _PROCESSOR else loop.p50
        for loop in (before.conduct.loop_ms, after.conduct.loop_ms)
    )
    return other / one if one else 1.0


def _change(before: Row, after: Row | None, metric: str, machine: float) -> Change:
    if metric in _MEASURED:
        first, last = _MEASURED[metric](before), _MEASURED[metric](after) if after else None
        # Quality over other inputs is another quality.
        alike = after is not None and (metric not in _QUALITY or before.quality_n == after.quality_n)
        ratio = Interval(last / first, last / first, last / first) if alike and first and last is not None else None
        return Change(before.label, metric, first, last, ratio, tested=False)
    percent = TIMED.get(metric, 50.0)
    one, other = _samples(before, metric), _samples(after, metric) if after else None
    if one is None or other is None:
        return Change(before.label, metric, _value(one, metric), _value(other, metric), None, tested=True)
    ratio = ratio_interval(one.rounds, other.rounds, percent=percent)
    return Change(before.label, metric, _value(one, metric), _value(other, metric), ratio, tested=True, machine=machine)


def _samples(row: Row, metric: str) -> Samples | None:
    if metric == _PROCESSOR:
        return row.processor_ms
    if metric in _STARTED:
        found: Samples | None = getattr(row.startup, f"{metric}_ms", None)
        return found
    return row.stages_ms.get("total" if metric in TIMED else metric)


def _value(samples: Samples | None, metric: str) -> float | None:
    return None if samples is None else float(getattr(samples, metric if metric in TIMED else "p50"))

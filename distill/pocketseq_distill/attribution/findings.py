"""What the measurements of a gap came to, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from pocketseq.calibration.measures import Array, Interval, interval, resamplings
from pocketseq.records import plain

Cause: TypeAlias = Literal["vocabulary", "labels", "training", "capacity", "quantization"]

FORMAT: Final = 1

ADVICE: Final[dict[Cause, str]] = {
    "vocabulary": "learn a larger vocabulary, or trim less of the teacher's: these rows cannot be answered whatever is learnt",
    "labels": 'take references where the teacher is wrong ([filter] wrong = "reference"), or choose among more of its answers',
    "training": "train longer: the same student still gains from further updates",
    "capacity": "take a larger student: this one cannot hold what the teacher's shape holds of the same rows",
    "quantization": "keep this precision's worst layers in a higher one, or try [train] int8_steps",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one cause costs, by one controlled measurement."""

    cause: Cause
    name: str
    """What was measured, in a few words."""
    lost: Interval | None
    """Share of rows lost to the cause, with its 95% bootstrap interval over rows; below 0 where it gains. None where it could not
    be measured, and ``controls`` says why."""
    rows: int
    """Rows that it was measured on."""
    controls: str
    """What was held fixed and what was varied."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Teacher against student on the same held-out rows, and what each cause has to do with it."""

    rows: int
    """Held-out rows."""
    teacher: Interval
    """Exact match of the teacher."""
    student: Interval
    """Exact match of the student's checkpoint, not quantized."""
    gap: Interval
    """The teacher's less the student's, row by row."""
    findings: tuple[Finding, ...]
    """By cause. They are measurements of their own, not shares of one sum: causes overlap, and they need not add up to the gap."""

    @property
    def advice(self) -> str:
        """What to try next: what is said for the cause that surely costs most, or what to do where none surely costs anything."""
        sure = [finding for finding in self.findings if finding.lost is not None and finding.lost.low > 0]
        if not sure:
            if self.gap.low <= 0:
                return "the student is as good as its teacher on these rows, as far as they can tell: take a better teacher"
            return "no cause stands out beyond chance: measure on more rows, or with more updates"
        worst = max(sure, key=lambda finding: finding.lost.low if finding.lost else 0.0)
        return ADVICE[worst.cause]

    def to_json(self) -> dict[str, Any]:
        """The gap as plain JSON values."""
        return {"format": FORMAT, **plain(self), "advice": self.advice}


def share(values: Array) -> Interval:
    """Mean of values by row, float64 [rows], with its bootstrap interval."""
    if not values.size:
        return Interval(0.0, 0.0, 0.0)

    def mean(weights: Array | None) -> Array:
        found: Array = np.array(values.mean()) if weights is None else weights @ values / values.size
        return found

    return interval(mean, resamplings(values.size, seed=0))


def table(gap: Gap) -> Iterator[str]:
    """The gap for a terminal, line by line."""
    yield f"on {gap.rows} held-out rows, exact match:"
    for name, value in (("teacher", gap.teacher), ("student", gap.student), ("gap", gap.gap)):
        yield f"  {name:<44}{_points(value)}"
    yield "what each cause costs, one controlled measurement each; causes overlap and need not add up:"
    for finding in gap.findings:
        lost = "not measured" if finding.lost is None else f"{_points(finding.lost)}  {finding.rows} rows"
        yield f"  {finding.cause:<14}{finding.name:<30}{lost}"
        yield f"    {finding.controls}"
    yield f"next: {gap.advice}"


def _points(value: Interval) -> str:
    return f"{100 * value.value:6.1f}  [{100 * value.low:5.1f}, {100 * value.high:5.1f}]"

"""What the measurements of a gap came to, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from pocketseq.calibration.measures import Array, Interval, interval, resamplings
from pocketseq.records import plain
from pocketseq_distill.attribution.courses import Course

Cause: TypeAlias = Literal["vocabulary", "labels", "training", "capacity", "quantization"]

FORMAT: Final = 1
_WIDTH: Final = 110

ADVICE: Final[dict[Cause, str]] = {
    "vocabulary": "learn a larger vocabulary, or trim less of the teacher's: these rows cannot be answered whatever is learnt",
    "labels": 'take references where the teacher is wrong ([filter] wrong = "reference"), choose among more of its answers, or '
    "give its distribution less weight ([train] divergence)",
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
    measure: str
    """What the training was judged by, and all of this is: ``exact_match``, or ``chrf`` by row."""
    teacher: Interval
    """Of the teacher."""
    student: Interval
    """Of the student's checkpoint, not quantized."""
    gap: Interval
    """The teacher's less the student's, row by row."""
    findings: tuple[Finding, ...]
    """By cause. They are measurements of their own, not shares of one sum: causes overlap, and they need not add up to the gap."""
    courses: tuple[Course, ...] = ()
    """How far teacher and student were trained, where their cards tell."""
    note: str = ""
    """What the teacher is, where it is not the one that labelled."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of ``teacher`` and ``student``, by which a report tells that another has taken its place since."""

    @property
    def advice(self) -> str:
        """What to try next: to finish what is unfinished, as nothing else can be told before; then what surely costs most."""
        as_good = self.gap.low <= 0
        unfinished = [course for course in self.courses if course.is_unfinished and (course.name == "teacher" or not as_good)]
        cause = self._costliest()
        if unfinished:
            names = " and ".join(course.name for course in unfinished)
            after = f"then {ADVICE[cause]}" if cause and cause != "training" else "then measure again"
            level = "the student is as good as its teacher on these rows, as far as they can tell; " if as_good else ""
            return f"{level}train the {names} longer first: {'; '.join(map(str, unfinished))}; {after}"
        if cause:
            return ADVICE[cause]
        if as_good:
            return "the student is as good as its teacher on these rows, as far as they can tell: take a better teacher"
        return "no cause stands out beyond chance: measure on more rows, or with more updates"

    def _costliest(self) -> Cause | None:
        """The cause that costs most at the lower end of its interval, None where none surely costs anything."""
        sure = [(finding.lost.low, finding.cause) for finding in self.findings if finding.lost and finding.lost.low > 0]
        return max(sure)[1] if sure else None

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
    yield f"on {gap.rows} held-out rows, {'chrF' if gap.measure == 'chrf' else 'exact match'}:"
    for name, value in (("teacher", gap.teacher), ("student", gap.student), ("gap", gap.gap)):
        yield f"  {name:<44}{_points(value)}"
    if gap.note:
        yield f"  {gap.note}"
    yield "what each cause costs, in points, one controlled measurement each; causes overlap and need not add up:"
    for finding in gap.findings:
        lost = " " * 5 + "–" if finding.lost is None else f"{_points(finding.lost)}  {finding.rows} rows"
        yield f"  {finding.cause:<14}{finding.name:<30}{lost}"
        yield from wrap(finding.controls, width=_WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4)
    yield "how far training went:"
    yield from (f"  {course}" for course in gap.courses)
    yield from wrap(f"next: {gap.advice}", width=_WIDTH, subsequent_indent="  ")


def _points(value: Interval) -> str:
    return f"{100 * value.value:6.1f}  [{100 * value.low:5.1f}, {100 * value.high:5.1f}]"

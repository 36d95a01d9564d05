"""A table of results: teacher, student, the int8 student that ships and a plain student, beside what others have published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq_distill.evaluation import Latency
from pocketseq_distill.published.protocols import Score
from pocketseq_distill.published.results import Goal, PublishedResult

FORMAT: Final = 1

_QUALITY, _SMALLER, _FASTER = 0.98, 8.0, 6.0
"""Shares of the teacher's quality, size and time that the shipped student is to reach."""


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model of the table."""

    name: str
    """``teacher``, ``student``, ``student-int8`` or ``plain``."""
    runtime: str
    """``pytorch``, or the bundle's runtime."""
    precision: str
    parameters: int
    """Weights, tied ones counted once."""
    size_bytes: int
    """Weights on disk; of a bundle's variant all its files."""
    scores: tuple[Score, ...]
    """By the task's protocol, decoded greedily; the one that decides first."""
    latency_ms: Latency
    """Time of one answer on one thread, tokenizer included, all models in turns."""
    training: Mapping[str, Any] | None
    """Updates, minutes, seed, hardware and validations; None where it was made of another row without training."""

    @property
    def quality(self) -> float:
        """The score that decides, as one that is better when higher, percent: of word errors the share of words that are right."""
        first = self.scores[0]
        return first.value if first.better == "higher" else 100 - first.value


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that was to be reached."""

    what: str
    wanted: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True)
class ResultTable:
    """Everything that the result file says."""

    recipe: str
    task: str
    protocol: str
    origin: str
    """Where the data come from."""
    data: str
    """Fingerprint of the corpus."""
    test_rows: int
    models: tuple[ModelResult, ...]
    published: tuple[PublishedResult, ...]
    claims: tuple[Claim, ...]
    machine: str
    """Processor that the answers were timed on."""
    format: int = FORMAT


def claims(models: Mapping[str, ModelResult], goal: Goal) -> tuple[Claim, ...]:
    """Hold the student that ships to what it was to reach.

    Args:
        models: ``teacher``, ``student-int8`` and, where there is one, ``plain``.
        goal: What the task asks for.

    Raises:
        DataError: one of the models is missing.
    """
    missing = {"teacher", "student-int8"} - set(models)
    if missing:
        raise DataError(f"expected results of teacher and student-int8, found none of {sorted(missing)}; run their stages first")
    teacher, student = models["teacher"], models["student-int8"]
    found = []
    for score in student.scores:
        if score.name in goal.scores:
            bar = goal.scores[score.name]
            sign, holds = ("≥", score.value >= bar) if score.better == "higher" else ("≤", score.value <= bar)
            found.append(Claim(f"{score.name} of {goal.system}", f"{sign} {bar:g}", f"{score.value:g}", holds))
    size = student.size_bytes / 1e6
    share, smaller = student.quality / max(teacher.quality, 1e-9), teacher.size_bytes / student.size_bytes
    faster = teacher.latency_ms.p50 / student.latency_ms.p50
    found += [
        Claim("size", f"≤ {goal.size_mb:g} MB", f"{size:.2f} MB", size <= goal.size_mb),
        Claim("quality of the teacher's", f"≥ {_QUALITY:.0%}", f"{share:.1%}", share >= _QUALITY),
        Claim("smaller than the teacher", f"≥ {_SMALLER:g}×", f"{smaller:.1f}×", smaller >= _SMALLER),
        Claim("faster than the teacher in PyTorch", f"≥ {_FASTER:g}×", f"{faster:.1f}×", faster >= _FASTER),
    ]
    if "plain" in models:
        plain = models["plain"]
        gap = student.quality - plain.quality
        found.append(Claim("ahead of the plain student", "> 0 points", f"{gap:+.2f} points", gap > 0))
    return tuple(found)

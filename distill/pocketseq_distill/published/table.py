"""A table of results: teacher, student, the students of the bundle and a plain student, beside what others have published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq_distill.evaluation import Latency
from pocketseq_distill.published.protocols import Lead, Score
from pocketseq_distill.published.results import Goal, PublishedResult

FORMAT: Final = 1

_TITLES: Final = {"bleu": "BLEU", "exact_match": "exact match", "wer": "word errors"}
_QUALITY, _SMALLER, _FASTER = 0.98, 8.0, 6.0
"""Shares of the teacher's quality, size and time that the shipped student is to reach."""
_AS_LONG: Final = 0.98
"""Share of the student's updates from which a plain one learnt as long: a clock ends them within about that."""


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model of the table."""

    name: str
    """``teacher``, ``student``, ``student-int8`` or ``plain``; ``student`` twice, by PyTorch and in the bundle's full precision."""
    runtime: str
    """``pytorch``, or the bundle's runtime."""
    precision: str
    parameters: int | None
    """Weights, tied ones counted once; None of a teacher through text, which does not tell, as the next."""
    size_bytes: int | None
    """Weights on disk; of a bundle's variant all its files."""
    scores: tuple[Score, ...]
    """By the task's protocol, decoded greedily; the one that decides first."""
    latency_ms: Latency | None
    """Time of one answer on one thread, tokenizer included, all models in turns; of a teacher through text by itself, None where
    it was not timed."""
    training: Mapping[str, Any] | None
    """Updates, made and planned, passes over its rows, minutes, seed, hardware and validations; None where it was made of another
    row without training, or joined of models that were trained elsewhere."""

    @property
    def quality(self) -> float:
        """The score that decides, as one that is better when higher, percent: of word errors the share of words that are right."""
        first = self.scores[0]
        return first.value if first.better == "higher" else 100 - first.value

    @property
    def updates(self) -> int | None:
        """All that it made in trainings of its own, which what it was cut from is not; None where they are not told."""
        return None if self.training is None else self.training["steps"] + self.training.get("earlier_steps", 0)


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


def claims(models: Mapping[str, ModelResult], goal: Goal | None, lead: Lead | None = None) -> tuple[Claim, ...]:
    """Hold the student that ships to what it was to reach.

    Args:
        models: ``student-int8`` and, where they are known, ``teacher``, ``student`` in PyTorch and ``plain``.
        goal: What the task asks for; None where nothing is published to compare with.
        lead: How far the student that ships is ahead of a plain one; None where there is none.

    Raises:
        DataError: the student that ships is missing, or does not tell its size.
    """
    student = models.get("student-int8")
    if student is None or student.size_bytes is None:
        raise DataError(f"expected results of student-int8, found only {sorted(models)}; run its stages first")
    found = []
    if goal is not None:
        found += [_reaches(score, goal) for score in student.scores if score.name in goal.scores]
        size = student.size_bytes / 1e6
        found.append(Claim("size", f"≤ {goal.size_mb:g} MB", f"{size:.2f} MB", size <= goal.size_mb))
    if "teacher" in models:
        found += _beside(student, models["teacher"])
    if lead is not None:
        found.append(_ahead(lead, models.get("student"), models.get("plain")))
    return tuple(found)


def _reaches(score: Score, goal: Goal) -> Claim:
    bar = goal.scores[score.name]
    sign, holds = ("≥", score.value >= bar) if score.better == "higher" else ("≤", score.value <= bar)
    return Claim(f"{_TITLES[score.name]} of {goal.system}", f"{sign} {bar:g}", f"{score.value:g}", holds)


def _ahead(lead: Lead, student: ModelResult | None, plain: ModelResult | None) -> Claim:
    """Ahead of a plain student that learnt for as long: of one that stopped sooner it may be ahead for that alone."""
    points, as_long = f"{lead.value:+.2f} points, {lead.low:+.2f} to {lead.high:+.2f}", True
    if student and plain and student.updates and plain.updates:
        share = plain.updates / student.updates
        points, as_long = f"{points}; that one made {share:.0%} of the student's updates", share >= _AS_LONG
    return Claim("ahead of a plain student trained as long", "> 0 points", points, lead.value > 0 and as_long)


def _beside(student: ModelResult, teacher: ModelResult) -> Iterator[Claim]:
    """What the student keeps of its teacher; nothing of what the teacher does not tell."""
    share = student.quality / max(teacher.quality, 1e-9)
    yield Claim("quality of the teacher's", f"≥ {_QUALITY:.0%}", f"{share:.1%}", share >= _QUALITY)
    if teacher.size_bytes and student.size_bytes:
        smaller = teacher.size_bytes / student.size_bytes
        yield Claim("smaller than the teacher", f"≥ {_SMALLER:g}×", f"{smaller:.1f}×", smaller >= _SMALLER)
    if teacher.latency_ms and student.latency_ms:
        faster = teacher.latency_ms.p50 / student.latency_ms.p50
        yield Claim("faster than the teacher in PyTorch", f"≥ {_FASTER:g}×", f"{faster:.1f}×", faster >= _FASTER)

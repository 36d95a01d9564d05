"""Choosing what ships: for each runtime the smallest or fastest variant that stays within limits, by what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Preference: TypeAlias = Literal["size", "speed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a variant must keep to; None is no limit."""

    max_quality_drop: float | None = None
    """Exact match that may be lost against the checkpoint, as a fraction."""
    max_size_mb: float | None = None
    """Megabytes (10⁶ bytes) of the variant's files."""
    max_latency_ms: float | None = None
    """Median milliseconds of one answer on this machine, one thread."""
    prefer: Preference = "size"
    """Which of those within the limits is chosen: the smallest or the fastest."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One variant, and what became of it."""

    label: str
    """Such as ``onnx/int8``."""
    size_mb: float
    exact_match: float | None
    """None where it could not run here, as the next two."""
    quality_drop: float | None
    """Exact match lost against the checkpoint, as a fraction."""
    latency_ms: float | None
    """Median of one answer end to end on this machine."""
    fault: str = ""
    """Why verification did not keep it, or could not run it."""
    chosen: bool = False
    why: str = ""
    """Why it is chosen, or why not."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The table from which was chosen."""

    limits: Limits
    candidates: tuple[Candidate, ...]
    """By runtime, each runtime's smallest first."""

    @property
    def chosen(self) -> tuple[str, ...]:
        """Labels of the variants that ship."""
        return tuple(candidate.label for candidate in self.candidates if candidate.chosen)


def choose(candidates: Sequence[Candidate], limits: Limits) -> Selection:
    """Choose one variant of each runtime, or none where none keeps to the limits.

    A variant that could not run here is never preferred to one that could, nor thrown away: it stays, unmeasured.
    """
    runtimes = dict.fromkeys(candidate.label.partition("/")[0] for candidate in candidates)
    table: list[Candidate] = []
    for runtime in runtimes:
        own = sorted((each for each in candidates if each.label.startswith(f"{runtime}/")), key=lambda each: each.size_mb)
        table += _choose_one(own, limits)
    return Selection(limits=limits, candidates=tuple(table))


def table_lines(selection: Selection) -> list[str]:
    """The table for people."""
    head = ("", "variant", "MB", "exact match", "lost", "ms", "")
    rows = [head, *(_cells(candidate) for candidate in selection.candidates)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        + f"  {row[-1]}".rstrip()
        for row in rows
    ]


def _choose_one(candidates: Sequence[Candidate], limits: Limits) -> list[Candidate]:
    faults = {candidate.label: _fault(candidate, limits) for candidate in candidates}
    within = [candidate for candidate in candidates if not faults[candidate.label] and candidate.exact_match is not None]
    by_speed = limits.prefer == "speed"
    winner = min(within, key=_speed if by_speed else _size, default=None)
    decided = []
    for candidate in candidates:
        if candidate.exact_match is None:
            decided.append(replace(candidate, chosen=True, why="not checked on this machine"))
        elif candidate is winner:
            decided.append(replace(candidate, chosen=True, why=f"the {'fastest' if by_speed else 'smallest'} within the limits"))
        else:
            why = faults[candidate.label] or f"{'slower' if by_speed else 'larger'} than {winner.label if winner else 'none'}"
            decided.append(replace(candidate, why=why))
    return decided


def _fault(candidate: Candidate, limits: Limits) -> str:
    """Why a variant is not within the limits; empty where it is."""
    faults = [candidate.fault] if candidate.fault else []
    if limits.max_quality_drop is not None and (candidate.quality_drop or 0) > limits.max_quality_drop + 1e-9:
        faults.append(f"loses {candidate.quality_drop:.3f}, more than {limits.max_quality_drop:g}")
    if limits.max_size_mb is not None and candidate.size_mb > limits.max_size_mb:
        faults.append(f"{candidate.size_mb:.1f} MB, more than {limits.max_size_mb:g}")
    if limits.max_latency_ms is not None and (candidate.latency_ms or 0) > limits.max_latency_ms:
        faults.append(f"{candidate.latency_ms:.1f} ms, more than {limits.max_latency_ms:g}")
    return "; ".join(faults)


def _size(candidate: Candidate) -> tuple[float, float]:
    return candidate.size_mb, candidate.latency_ms or 0.0


def _speed(candidate: Candidate) -> tuple[float, float]:
    return candidate.latency_ms or 0.0, candidate.size_mb


def _cells(candidate: Candidate) -> tuple[str, ...]:
    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return (
        "*" if candidate.chosen else " ",
        candidate.label,
        f"{candidate.size_mb:.1f}",
        shown(candidate.exact_match, ".3f"),
        shown(candidate.quality_drop, ".3f"),
        shown(candidate.latency_ms, ".1f"),
        candidate.why,
    )

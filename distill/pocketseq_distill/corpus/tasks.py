"""The two tasks that the standard library teaches: repairing a line, and completing one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from pocketseq.examples import Example
from pocketseq.files import digest
from pocketseq.template import Field, Template
from pocketseq_distill.corpus.lines import CodeLine, Token
from pocketseq_distill.corpus.slips import make_slip

CLEAN_SHARE: Final = 1 / 8
"""Share of python-fix rows in which nothing is wrong, where a corpus does not ask for another."""
_ALONE_SHARE: Final = 0.12
"""Share of rows without the lines around and without indentation, as when a single line is pasted."""
_SECOND_SLIP_SHARE: Final = 0.08
"""Share of headers that, besides their slip, lack the colon at the end."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to learn from a line of code."""

    name: str
    template: Template
    max_new_tokens: int
    """Longest answer in tokens, end token included."""
    make: Callable[[CodeLine, str, Random, float], Example | None]
    """(line, source, random source, share of rows with nothing wrong) → a row, or None where the line offers none."""


def _fix(line: CodeLine, source: str, rng: Random, clean_share: float) -> Example | None:
    if rng.random() < _ALONE_SHARE:
        line = _alone(line)
    kind, wrong = "clean", line.text
    if rng.random() >= clean_share:
        slip = make_slip(line, rng)
        if slip is None:
            return None
        kind, wrong = slip
        if kind != "colon" and line.text.endswith(":") and wrong.endswith(":") and rng.random() < _SECOND_SLIP_SHARE:
            wrong = wrong[:-1]
    fields = {"before": line.before, "line": wrong, "after": line.after}
    return _example(fields, line.text, kind, source)


def _complete(line: CodeLine, source: str, rng: Random, _clean_share: float) -> Example | None:
    starts = [token.start for token in line.tokens[1:]]
    if not starts:
        return None
    column = rng.choice(starts)
    before = f"{line.before}\n{line.text[:column]}" if line.before else line.text[:column]
    return _example({"before": before, "after": line.after}, line.text[column:], "", source)


def _example(fields: dict[str, str], target: str, kind: str, source: str) -> Example:
    return Example(id=digest([fields, target]), fields=fields, target=target, kind=kind, source=source)


def _alone(line: CodeLine) -> CodeLine:
    indent = len(line.text) - len(line.text.lstrip())
    tokens = tuple(Token(t.text, t.start - indent, t.stop - indent, t.name) for t in line.tokens)
    return replace(line, text=line.text[indent:], before="", after="", tokens=tokens)


TASKS: Final[dict[str, Task]] = {
    "python-fix": Task(
        name="python-fix",
        template=Template(
            fields=(
                Field(name="before", max_tokens=48, truncate="left"),
                Field(name="line", max_tokens=64, truncate="left", prefix="<line>"),
                Field(name="after", max_tokens=20, truncate="right", prefix="<after>"),
            ),
            primary="line",
            edits="line",
            instruction="Answer with the Python line 'line' as it should be, any slip in it repaired, and nothing else.",
        ),
        max_new_tokens=24,
        make=_fix,
    ),
    "python-line": Task(
        name="python-line",
        template=Template(
            fields=(
                Field(name="before", max_tokens=96, truncate="left"),
                Field(name="after", max_tokens=32, truncate="right", prefix="<after>"),
            ),
            primary="before",
            instruction="Answer with the rest of the Python line at the end of 'before', and nothing else.",
        ),
        max_new_tokens=32,
        make=_complete,
    ),
}
"""Tasks by name."""

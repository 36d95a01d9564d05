"""Editing sessions: what stood in the editor after each keystroke, and when; recorded or synthetic, as JSONL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq.files import writing
from pocketseq.records import plain, read_record
from pocketseq.template import Template

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Keystroke:
    """One key, and what stood there after it."""

    at_ms: float
    """Since the session's start."""
    unit: int
    """Number of the piece of text that is being written, such as a line; a suggestion is for one."""
    fields: Mapping[str, str]
    """What the template's fields hold."""
    intended: str | None = None
    """What the primary field would hold had the typist made no slip so far; None where nobody knows."""
    manual: bool = False
    """Whether this key asks for a suggestion; the debounce does not hold it back."""


@dataclass(frozen=True, slots=True)
class Session:
    """A sequence of keystrokes."""

    name: str
    """For people."""
    origin: str
    """``recorded`` or ``synthetic``."""
    keystrokes: tuple[Keystroke, ...]
    """In order of time, at least one."""
    typing: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the typist of a synthetic session."""

    def __post_init__(self) -> None:
        times = [key.at_ms for key in self.keystrokes]
        if not times or times != sorted(times):
            raise DataError(f"session {self.name!r}: expected keystrokes in order of time, at least one")

    @property
    def minutes(self) -> float:
        """From the first to the last key."""
        return (self.keystrokes[-1].at_ms - self.keystrokes[0].at_ms) / 60_000


def check_session(session: Session, template: Template) -> None:
    """Refuse a session of another bundle, before anything is asked.

    Raises:
        DataError: a keystroke without the template's primary field, or with a field that the template has not.
    """
    names = [field.name for field in template.fields]
    for number, key in enumerate(session.keystrokes, start=1):
        if template.primary not in key.fields or not set(key.fields) <= set(names):
            raise DataError(
                f"session {session.name!r}: expected the bundle's fields {names}, {template.primary!r} in every keystroke, found "
                f"{sorted(key.fields)} in keystroke {number}; replay the bundle that it was recorded for"
            )


def read_session(path: Path) -> Session:
    """Read a session.

    Raises:
        DataError: no such file, another format, or a bad line, with its number.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected a session with one JSON object a line, found: {error}") from None
    head = lines[0] if lines and isinstance(lines[0], dict) else {}
    if head.get("format") != FORMAT:
        raise DataError(f'{path}:1: expected a head such as {{"format": {FORMAT}, "name": …}}, found {head.get("format")!r}')
    keys = [
        read_record(Keystroke, line, where=f"{path}:{number}", error=DataError) for number, line in enumerate(lines[1:], start=2)
    ]
    return Session(
        name=str(head.get("name", path.stem)),
        origin=str(head.get("origin", "recorded")),
        keystrokes=tuple(keys),
        typing=head.get("typing", {}),
    )


def write_session(path: Path, session: Session) -> None:
    """Write a session; ``read_session`` reads it back."""
    head = {"format": FORMAT, "name": session.name, "origin": session.origin, "typing": dict(session.typing)}
    with writing(path) as file:
        for value in (head, *(plain(key) for key in session.keystrokes)):
            file.write(json.dumps(value, ensure_ascii=False) + "\n")

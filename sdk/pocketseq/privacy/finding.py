"""What a detector finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Finding:
    """A part of a text that must not leave the device."""

    kind: str
    """What it is, in lower case with underscores, such as ``aws_key``; goes into placeholders and receipts."""
    start: int
    """First character."""
    stop: int
    """Behind its last character."""


class Detector(Protocol):
    """Finds what must not leave; any callable of this form is one."""

    def __call__(self, text: str, /) -> Iterable[Finding]:
        """Find all of it in a text; findings may overlap."""
        ...

"""Caches that are values, on states that can neither be copied nor kept from changing."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from pocketseq.runtimes.protocol import Floats


class Tape:
    """Keys and values of one sequence in place, which each step overwrites behind the tokens that it was given."""

    def __init__(self, state: Any, values: Floats) -> None:
        self.state = state
        """Core ML's own, or None where ``values`` are handed over at every step."""
        self.values = values
        """float32 [2 × layers, heads, longest target, head_dim]; of no account where there is a state."""
        self.marks: list[object] = []
        """Identity of what each place holds: the ``mark`` of the prefix that ends there."""
        self.lock = threading.Lock()
        """Held while the tape moves: a state serves one thread at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """The tokens so far of one row: a value, which never changes, whatever happens to the tape that once held it."""

    parent: Prefix | None
    """One token less; None for the empty prefix."""
    column: Floats | None
    """Keys and values of the last token, float32 [2 × layers, heads, 1, head_dim]; None for the empty prefix."""
    length: int
    """Tokens."""
    tape: Tape | None
    """Where it was written; it may have gone on another way since."""
    mark: object
    """Its identity on a tape."""

    def held(self) -> bool:
        """Whether the tape still holds it; call with the tape's lock."""
        assert self.tape is not None
        return len(self.tape.marks) >= self.length and self.tape.marks[self.length - 1] is self.mark

    def columns(self) -> list[Floats]:
        """Keys and values of its tokens, in order."""
        found: list[Floats] = []
        here: Prefix | None = self
        while here is not None and here.column is not None:
            found.append(here.column)
            here = here.parent
        return found[::-1]

    def marks(self) -> list[object]:
        """Identities of its own beginnings, in order, its own the last."""
        found: list[object] = []
        here: Prefix | None = self
        while here is not None and here.parent is not None:
            found.append(here.mark)
            here = here.parent
        return found[::-1]

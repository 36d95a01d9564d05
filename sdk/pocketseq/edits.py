"""Edits: a correction written as the span that changes instead of the whole text.

A line that needs one character more is twenty tokens to repeat and two to edit. A model whose output form is ``edit`` says
*replace lexemes i to j by this text*; a text that is already right is the empty answer. Lexemes are found by a pattern that
needs no parser, so it holds on broken code and in any language, and their concatenation is always the text itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LEXEME_PATTERN: Final = r" ?_*[^\W_]+| ?_+| ?[^\w\s]+|\s+(?!\S)|\s+"
"""A word with its leading space and underscores, a run of punctuation, or white space. Also the pre-tokenizer of tokenizers
that this project trains, so that a subword never spans two lexemes."""

_LEXEME: Final = re.compile(LEXEME_PATTERN)


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the lexemes ``start`` (inclusive) to ``stop`` (exclusive) by ``text``."""

    start: int
    """Index of the first lexeme that goes; equal to ``stop`` for a pure insertion."""
    stop: int
    """Index after the last lexeme that goes."""
    text: str
    """What stands there instead; empty for a deletion."""


def lexemes(text: str) -> list[str]:
    """Split a text into lexemes whose concatenation is the text."""
    return _LEXEME.findall(text)


def find_edit(text: str, target: str) -> Edit | None:
    """Find the shortest single edit, in lexemes, that turns one text into another.

    Returns:
        The edit, or None where the texts are the same.
    """
    if text == target:
        return None
    old, new = lexemes(text), lexemes(target)
    shortest = min(len(old), len(new))
    start = 0
    while start < shortest and old[start] == new[start]:
        start += 1
    tail = 0
    while tail < shortest - start and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return Edit(start=start, stop=len(old) - tail, text="".join(new[start : len(new) - tail]))


def apply_edit(parts: Sequence[str], edit: Edit) -> str:
    """Apply an edit to the lexemes of a text; positions past its end count as its end."""
    start = min(edit.start, len(parts))
    stop = max(start, min(edit.stop, len(parts)))
    return "".join(parts[:start]) + edit.text + "".join(parts[stop:])

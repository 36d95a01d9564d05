"""Lines of code worth suggesting, with the tokens on them and the names around them."""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BEFORE_LINES: Final = 5
"""Lines of context before the line."""
AFTER_LINES: Final = 2
"""Lines of context after the line."""
LONGEST_LINE: Final = 110
"""Longer lines, in characters, are left out: they are data more often than code."""

_NAME: Final = re.compile(r"[^\W\d]\w*")
_CODE: Final = frozenset({tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING})


@dataclass(frozen=True, slots=True)
class Token:
    """One token of Python on a line."""

    text: str
    start: int
    """Column of its first character."""
    stop: int
    """Column after its last character."""
    name: bool
    """An identifier, keywords excluded."""


@dataclass(frozen=True, slots=True)
class CodeLine:
    """One physical line of code and what stands around it."""

    number: int
    """Line number in its file, from 1."""
    text: str
    """The line without its line feed, indentation kept."""
    before: str
    """Up to ``BEFORE_LINES`` lines before it."""
    after: str
    """Up to ``AFTER_LINES`` lines after it."""
    tokens: tuple[Token, ...]
    """Code tokens on the line; comments are none."""
    whole: bool
    """The line is a logical line of its own: brackets that open on it also close on it."""

    @property
    def context_names(self) -> frozenset[str]:
        """Names that the lines around show."""
        return frozenset(_NAME.findall(self.before)) | frozenset(_NAME.findall(self.after))


def code_lines(text: str) -> Iterator[CodeLine]:
    """Find the lines of a file that hold at least two tokens of code and none of a string over several lines."""
    # Not splitlines: to Python, unlike Unicode, a form feed or another old separator ends no line.
    rows = text.removesuffix("\n").split("\n")
    tokens, broken, continued = _tokens_by_row(text)
    for number, found in tokens.items():
        if number in broken or len(found) < 2 or number > len(rows):
            continue
        line = rows[number - 1].rstrip()
        if len(line) > LONGEST_LINE or not line.isprintable():
            continue
        yield CodeLine(
            number=number,
            text=line,
            before="\n".join(rows[max(0, number - 1 - BEFORE_LINES) : number - 1]),
            after="\n".join(rows[number : number + AFTER_LINES]),
            tokens=tuple(found),
            whole=number not in continued,
        )


def _tokens_by_row(text: str) -> tuple[dict[int, list[Token]], set[int], set[int]]:
    """Tokenise a file: code tokens by line number, lines inside long strings, lines that are parts of a longer statement."""
    rows: dict[int, list[Token]] = {}
    broken: set[int] = set()
    continued: set[int] = set()
    first = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            number = token.start[0]
            if token.type == tokenize.NEWLINE:
                if first and first != number:
                    continued.update(range(first, number + 1))
                first = 0
            if token.type not in _CODE:
                continue
            first = first or number
            if token.end[0] != number:
                broken.update(range(number, token.end[0] + 1))
                continue
            name = token.type == tokenize.NAME and not keyword.iskeyword(token.string)
            rows.setdefault(number, []).append(Token(token.string, token.start[1], token.end[1], name))
    except (tokenize.TokenError, SyntaxError):
        return {}, set(), set()
    return rows, broken, continued

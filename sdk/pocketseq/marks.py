"""Marks: the tokens by which a model that answers with edits names places in its input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pocketseq.edits import Edit, lexemes
from pocketseq.errors import InputError
from pocketseq.tokenizer import TextTokenizer
from pocketseq.windows import LEXEME, Side, narrow

MARK_TOKENS: Final = 64
"""Mark tokens in a vocabulary whose model answers with edits: one before each lexeme and one at the end."""


def mark_token(index: int) -> str:
    """Name of the token that marks a lexeme's place."""
    return f"<m{index}>"


_FIRST_MARK: Final = mark_token(0)


def read_edit(tokenizer: TextTokenizer, ids: Sequence[int]) -> Edit | None:
    """Read an edit out of emitted tokens: two marks, then text. None where they are no edit."""
    if len(ids) < 2:
        return None
    first = first_mark(tokenizer)
    start, stop = ids[0] - first, ids[1] - first
    if not 0 <= start <= stop < MARK_TOKENS:
        return None
    return Edit(start=start, stop=stop, text=tokenizer.decode(ids[2:]))


def first_mark(tokenizer: TextTokenizer) -> int:
    """Id of the mark of the first lexeme.

    Raises:
        InputError: the tokenizer has no marks.
    """
    number = tokenizer.special_id(_FIRST_MARK)
    if number is None:
        raise InputError(f"the template asks for edits, but the tokenizer has no mark tokens such as {_FIRST_MARK!r}")
    return number


@dataclass(slots=True)
class Marked:
    """The edited field as the model reads it; never changed, and made too often to be frozen."""

    head: str
    """What was cut off on the left."""
    lexemes: list[str]
    """What the model sees."""
    tail: str
    """What was cut off on the right."""
    ids: list[int]
    """Token ids, marks included."""
    cut: bool
    """Whether there is more of the field than the model sees: before or behind the window, or within a giant lexeme."""


def encode_marked(tokenizer: TextTokenizer, text: str, *, max_tokens: int, kept: Side) -> Marked:
    """Encode the edited field: a mark before each lexeme and one at the end.

    Args:
        tokenizer: With mark tokens.
        text: The field.
        max_tokens: Its budget, marks not counted.
        kept: The side that stays where it is over the budget.
    """
    parts = _edge_lexemes(text, MARK_TOKENS, kept)
    pieces = tokenizer.words_ids(parts)
    sizes = list(map(len, pieces))
    if sum(sizes) > max_tokens or len(parts) >= MARK_TOKENS:
        fitting = _fitting(sizes if kept == "left" else reversed(sizes), max_tokens)
        parts, pieces = (parts[:fitting], pieces[:fitting]) if kept == "left" else (parts[-fitting:], pieces[-fitting:])
    seen = sum(map(len, parts))
    cut = len(text) - seen
    giant = len(pieces) == 1 and len(pieces[0]) > max_tokens
    mark = first_mark(tokenizer)
    ids: list[int] = []
    for number, piece in enumerate(pieces, start=mark):
        ids.append(number)
        ids += piece
    del ids[max_tokens + 1 if giant else len(ids) :]
    ids.append(mark + len(pieces))
    head, tail = (text[:cut], "") if kept == "right" else ("", text[seen:])
    return Marked(head, parts, tail, ids, cut=cut > 0 or giant)


def _fitting(sizes: Iterable[int], max_tokens: int) -> int:
    """How many lexemes fit into the budgets of tokens and of marks; at least one of one or more."""
    total = count = 0
    for size in sizes:
        total += size
        if count and (total > max_tokens or count + 1 >= MARK_TOKENS):
            break
        count += 1
    return count


def _edge_lexemes(text: str, count: int, side: Side) -> list[str]:
    """The first or last ``count`` lexemes of a text, or all where there are fewer, without reading a long text whole."""
    width = 8 * count
    while (part := narrow(text, width, side, LEXEME)) is not None:
        parts = lexemes(part)
        if len(parts) >= count:
            return parts[:count] if side == "left" else parts[-count:]
        width *= 8
    parts = lexemes(text)
    return parts[:count] if side == "left" else parts[-count:]

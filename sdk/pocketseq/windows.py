"""Windows: the part of a long text that alone decides about its first or last tokens.

A pre-tokenizer splits a text into words, and each word is tokenised by itself. Where it always splits between a letter, a digit or
another printable ASCII character and the space behind it, whatever stands before and after, the tokens of a text cut there are
those of the whole text on that side. What is not known to split so is never cut. Letters and digits are those of every script: what
is one for one library is white space for none, and no normalizer makes one end in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pocketseq.edits import LEXEME_PATTERN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Side: TypeAlias = Literal["left", "right"]

SPACE: Final = re.compile(r"(?<=[!-~]|[^\W_]) ")
"""A space behind a letter, a digit or another printable ASCII character."""
LINE_OR_SPACE: Final = re.compile(r"(?<=[!-~]|[^\W_])[ \n]")
"""A space or line feed behind one."""
LEXEME: Final = re.compile(r"(?<=[!-~]|[^\W_])[ \n]|(?<=[A-Za-z0-9])(?=[!-/:-@\[-^`{-~])|(?<=[!-/:-@\[-^`{-~])(?=[A-Za-z0-9])")
"""The same, or in ASCII between a letter or digit and punctuation; lexemes always begin there."""

_LOCAL_NORMALIZERS: Final = {"NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Lowercase"}
"""They look at no more than a character and the marks upon it."""


def narrow(text: str, width: int, side: Side, boundary: re.Pattern[str] | None) -> str | None:
    """A beginning or an end of a text, cut at a boundary.

    Args:
        text: Any text.
        width: About how many characters to keep.
        side: ``left`` keeps the beginning, ``right`` the end.
        boundary: Where it may be cut; None is nowhere.

    Returns:
        The part, or None where the text is not longer or has no boundary there.
    """
    if boundary is None or len(text) <= width:
        return None
    place = boundary.search(text, width if side == "left" else len(text) - width)
    if place is None:
        return None
    return text[: place.start()] if side == "left" else text[place.start() :]


def boundaries(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """Where a tokenizer splits whatever stands around, or None where that is not known."""
    if any(not token.special for token in tokenizer.get_added_tokens_decoder().values()):
        return None  # such a token may reach over white space
    splits = _parts(tokenizer.pre_tokenizer, "pretokenizers")
    if not splits or not all(map(_is_local, _parts(tokenizer.normalizer, "normalizers"))):
        return None
    if any(part.get("prepend_scheme") == "first" for part in splits[1:]):
        return None  # what counts as the first word would change with the cut
    return _boundary(splits[0])  # the parts behind it see one word at a time


def spells_lexemes(tokenizer: Tokenizer) -> bool:
    """Whether a text in ASCII becomes the tokens that the model gives to its lexemes, spelled in bytes, one after the other."""
    if tokenizer.normalizer is not None or boundaries(tokenizer) is not LEXEME:
        return False
    match _parts(tokenizer.pre_tokenizer, "pretokenizers"):
        case [split, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]:
            return _is_lexical(split)
    return False


def _is_lexical(pre_tokenizer: Mapping[str, Any]) -> bool:
    match pre_tokenizer:
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return bool(pattern == LEXEME_PATTERN)
    return False


def _parts(component: Any, key: str) -> list[Mapping[str, Any]]:
    if component is None:
        return []
    described = json.loads(component.__getstate__())
    parts: list[Mapping[str, Any]] = described[key] if described["type"] == "Sequence" else [described]
    return parts


def _is_local(normalizer: Mapping[str, Any]) -> bool:
    """Whether a normalizer does the same on both sides of a boundary as on the whole."""
    match normalizer:
        case {"type": "Replace", "pattern": {"Regex": " {2,}"} | {"String": " "}}:
            return True
        case {"type": "Strip", "strip_left": False}:
            return True
        case {"type": kind}:
            return kind in _LOCAL_NORMALIZERS
    return False


def _boundary(pre_tokenizer: Mapping[str, Any]) -> re.Pattern[str] | None:
    match pre_tokenizer:
        case {"type": "Split"}:
            return LEXEME if _is_lexical(pre_tokenizer) else None
        case {"type": "ByteLevel", "use_regex": True}:
            return SPACE
        case {"type": "Metaspace", "split": True}:
            return SPACE
        case {"type": "Whitespace" | "BertPreTokenizer"}:
            return LEXEME
        case {"type": "WhitespaceSplit"}:
            return LINE_OR_SPACE
    return None

"""What a client is told of single tokens: their texts, their bytes, their log-probabilities."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from pocketseq.tokenizer import TextTokenizer

_INCOMPLETE: Final = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no whole character."""

_BYTE: Final = re.compile("<0x([0-9A-Fa-f]{2})>")
"""What SentencePiece writes for a byte."""

_PRINTED: Final = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that byte-level vocabularies write as the characters of the same number."""

_BYTES: Final = {
    **{chr(byte): byte for byte in _PRINTED},
    **{chr(0x100 + place): byte for place, byte in enumerate(sorted(set(range(0x100)) - set(_PRINTED)))},
}
"""The byte behind each character of such a vocabulary; the others are numbered from 256."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One emitted token."""

    text: str
    """What it adds to the answer; the name of one that adds nothing, such as the end token."""
    spelt: bytes | None
    """The bytes of what it adds, of which the text cannot tell where they are part of a character; None for a name."""
    logprob: float
    """Natural logarithm of its probability; -9999 stands for none that JSON could hold."""
    offset: int
    """Where its text begins among the texts of the tokens."""


class TokenNames:
    """Gives the tokens of one answer their texts, one after another."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Begin an answer.

        Args:
            tokenizer: The checkpoint's.
        """
        self._tokenizer = tokenizer
        self._before: tuple[int, ...] = ()
        self._offset = 0

    def name(self, token: int, logprob: float) -> TokenLogprob:
        """Take the next token.

        Args:
            token: Its id.
            logprob: Of the same.
        """
        piece = next(self._tokenizer.pieces([token]))
        spelt = self._spell(token, piece)
        text = piece if spelt is None else spelt.decode("utf-8", "replace")
        named = TokenLogprob(text, spelt, logprob if math.isfinite(logprob) else -9999.0, self._offset)
        self._offset += len(text)
        return named

    def _spell(self, token: int, piece: str) -> bytes | None:
        decode = self._tokenizer.decode
        if not decode([token, token]):  # twice, for the first space of a text is left out
            return None
        before, self._before = self._before, (token,)
        alone = decode([token])
        if _INCOMPLETE in alone and (spelt := _bytes_of(piece)) is not None:
            return spelt
        # Behind another token, for whether there is a space between them only both can tell.
        beginning, both = decode(before), decode([*before, token])
        return (both.removeprefix(beginning) if both.startswith(beginning) else alone).encode("utf-8")


def _bytes_of(piece: str) -> bytes | None:
    """The bytes of a vocabulary entry, where that is written in bytes."""
    if (byte := _BYTE.fullmatch(piece)) is not None:
        return bytes.fromhex(byte[1])
    return bytes(map(_BYTES.__getitem__, piece)) if set(piece) <= _BYTES.keys() else None

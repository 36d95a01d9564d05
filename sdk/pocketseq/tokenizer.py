"""Text to token ids and back, with a user's text and a template's literals kept apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketseq.edits import lexemes
from pocketseq.windows import Side, boundaries, narrow, spells_lexemes

if TYPE_CHECKING:
    from tokenizers import Tokenizer


_WORDS: Final = 8192
"""Short texts of which the ids are remembered: a megabyte or two at most."""
_SHORT: Final = 32
"""Longest text, in characters, of which the ids are remembered."""

_CONTEXTS: Final = 64
"""Beginnings and ends of long texts of which the ids are remembered: with most keys, what stands around a line is what it was."""
_LONGEST_CONTEXT: Final = 4096
"""Longest of them, in characters."""
_ANSWERS: Final = 1024
"""Short answers of which the text is remembered: a colon, a bracket and a keyword mend many lines."""
_FEW: Final = 8
"""Tokens of the longest of them."""

_PLAIN: Final = re.compile(r"[\t\n\r -~]*")
"""Texts in which every library finds the same lexemes: what is white space or a letter beyond ASCII they see differently."""
_SPACE: Final = "\u0120"
"""What byte-level tokenizers write for a space; the other characters in printable ASCII stand for themselves."""

_LITERALS: Final = 256
"""Literals of which the ids are remembered: more than a template has."""


class TextTokenizer:
    """A fast tokenizer in which text never turns into special tokens; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Wrap a tokenizer; it must not be used elsewhere afterwards, since its settings are changed.

        Args:
            tokenizer: A ``tokenizers.Tokenizer``; padding and truncation are turned off.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._special = {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        names = sorted(self._special, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, names)) + ")") if names else None
        self._boundaries = boundaries(tokenizer)
        self._tokenize = tokenizer.model.tokenize if spells_lexemes(tokenizer) else None
        # The lexemes of a line and the literals of a template come again and again, and a look-up costs a hundredth.
        self._words: dict[str, list[int]] = {}
        self._literals: dict[str, list[int]] = {}
        self._contexts: dict[str, list[int]] = {}
        self._answers: dict[tuple[int, ...], str] = {}

    @classmethod
    def from_file(cls, path: Path) -> TextTokenizer:
        """Read a ``tokenizer.json``."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_file(str(path)))

    @classmethod
    def from_bytes(cls, content: bytes) -> TextTokenizer:
        """Read the content of a ``tokenizer.json``."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_buffer(content))

    @property
    def size(self) -> int:
        """Number of token ids, special ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def definition(self) -> str:
        """Content of its ``tokenizer.json``."""
        return str(self._tokenizer.to_str())

    def special_id(self, token: str) -> int | None:
        """Id of a special token, or None where the vocabulary has none of that name."""
        return self._special.get(token)

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a user's text; special tokens spelled out in it are ordinary characters."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else []

    def edge_ids(self, text: str, count: int, side: Side) -> list[int]:
        """The first or last ``count`` ids of ``text_ids(text)``, or all where there are fewer, without reading a long text whole.

        Args:
            text: A user's text.
            count: Ids to give at most, at least 1.
            side: ``left`` for the first ids, ``right`` for the last.
        """
        width = 8 * count + 64
        while (part := narrow(text, width, side, self._boundaries)) is not None:
            ids = self._context_ids(part)
            if len(ids) > count:
                return ids[:count] if side == "left" else ids[-count:]
            width *= 8
        ids = self._context_ids(text)
        return ids[:count] if side == "left" else ids[-count:]

    def _context_ids(self, text: str) -> list[int]:
        """``text_ids`` of what stands around an edited text, remembered; not to be changed."""
        if len(text) > _LONGEST_CONTEXT:
            return self._part_ids(text)
        ids = self._contexts.get(text)
        if ids is None:
            ids = self._part_ids(text)
            if len(self._contexts) >= _CONTEXTS:  # another thread may still be reading it, so that it is replaced and not emptied
                self._contexts = {}
            self._contexts[text] = ids
        return ids

    def _part_ids(self, text: str) -> list[int]:
        """``text_ids``, lexeme by lexeme where that is the same: those of a context come again with every key."""
        if self._tokenize is None or _PLAIN.fullmatch(text) is None:
            return self.text_ids(text)
        return list(chain.from_iterable(self.words_ids(lexemes(text))))

    def words_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that are likely to come again, such as lexemes, each by itself; not to be changed."""
        known = self._words
        if len(known) > _WORDS:  # another thread may still be reading it, so that it is replaced and not emptied
            known = self._words = {}
        return [known.get(word) or self._spell(word, known) for word in words]

    def _spell(self, word: str, known: dict[str, list[int]]) -> list[int]:
        """``text_ids`` of a word, remembered; where the model alone decides about it, it is asked, in a tenth of the time."""
        if self._tokenize is not None and word.isascii() and word.isprintable():
            ids = [token.id for token in self._tokenize(word.replace(" ", _SPACE))]
        else:
            ids = self.text_ids(word)
        if len(word) <= _SHORT:
            known[word] = ids
        return ids

    def literal_ids(self, literal: str) -> list[int]:
        """Token ids of a template's literal, in which special tokens count as such; not to be changed."""
        ids = self._literals.get(literal)
        if ids is None:
            ids = []
            for part in self._split.split(literal) if self._split else [literal]:
                number = self._special.get(part)
                ids += self.text_ids(part) if number is None else [number]
            if len(self._literals) < _LITERALS:
                self._literals[literal] = ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out; that of a few is remembered."""
        if not ids:
            return ""
        if len(ids) > _FEW:
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))
        key = tuple(ids)
        text = self._answers.get(key)
        if text is None:
            text = str(self._tokenizer.decode(list(key), skip_special_tokens=True))
            if len(self._answers) >= _ANSWERS:
                self._answers = {}
            self._answers[key] = text
        return text

    def pieces(self, ids: Sequence[int]) -> Iterator[str]:
        """Vocabulary entries of token ids, for people who want to see the tokens; ids that have none are given in brackets."""
        for number in ids:
            piece = self._tokenizer.id_to_token(number)
            yield f"<{number}>" if piece is None else str(piece)

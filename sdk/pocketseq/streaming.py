"""Streaming: text as its tokens come, in pieces that never split a character and together are the whole answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from pocketseq.decoding.stops import certain, first_stop
from pocketseq.edits import Edit
from pocketseq.marks import read_edit
from pocketseq.template import EncodedInput, Template
from pocketseq.tokenizer import TextTokenizer

_INCOMPLETE: Final = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no whole character yet."""


class TextStream(Protocol):
    """Turns tokens into pieces of text."""

    def push(self, token: int) -> str:
        """Take one token, the end token excepted, and give the text that is certain now; often empty."""

    def finish(self) -> str:
        """Give what was held back."""


def text_stream(template: Template, tokenizer: TextTokenizer, encoded: EncodedInput, *, stops: Sequence[str] = ()) -> TextStream:
    """The stream of the template's output form, which ends before the first of the stop strings."""
    text: TextStream = PlainStream(tokenizer) if template.edits is None else EditStream(tokenizer, encoded)
    return StoppingStream(text, stops) if stops else text


class PlainStream:
    """The output is the text itself."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._given = ""

    def push(self, token: int) -> str:
        """Give the new text, as far as its last character is whole."""
        self._ids.append(token)
        # A run of byte tokens is decoded as one: what it says is certain only behind it.
        if self._is_byte(token):
            return ""
        return self._advance(self._tokenizer.decode(self._ids).rstrip(_INCOMPLETE))

    def finish(self) -> str:
        """Give what was held back."""
        return self._advance(self._tokenizer.decode(self._ids))

    def _advance(self, text: str) -> str:
        if not text.startswith(self._given):
            return ""
        piece = text[len(self._given) :]
        self._given = text
        return piece

    def _is_byte(self, token: int) -> bool:
        piece = next(self._tokenizer.pieces([token]))
        return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


class StoppingStream:
    """Holds back what may be the beginning of a stop string, and is silent from the first one on."""

    def __init__(self, text: TextStream, stops: Sequence[str]) -> None:
        self._text = text
        self._stops = stops
        self._held = ""
        self._stopped = False

    def push(self, token: int) -> str:
        """Give the text that is certain to stand before any stop string."""
        return self._advance(self._text.push(token), last=False)

    def finish(self) -> str:
        """Give what was held back, up to a stop string."""
        return self._advance(self._text.finish(), last=True)

    def _advance(self, piece: str, *, last: bool) -> str:
        if self._stopped:
            return ""
        text = self._held + piece
        end = first_stop(text, self._stops)
        self._stopped = end is not None
        given = end if end is not None else len(text) if last else certain(text, self._stops)
        self._held = text[given:]
        return text[:given]


class EditStream:
    """The output is an edit of a text: what stands before it comes at once, what stands behind it last."""

    def __init__(self, tokenizer: TextTokenizer, encoded: EncodedInput) -> None:
        self._tokenizer = tokenizer
        self._encoded = encoded
        self._parts = encoded.lexemes
        self._marks: list[int] = []
        self._edit: Edit | None = None
        self._replacement = PlainStream(tokenizer)
        self._begun = False
        self._given = 0

    def push(self, token: int) -> str:
        """Give the text before the edit at the first mark, then the replacement's pieces."""
        if self._edit is not None:
            return self._replacement.push(token)
        if len(self._marks) == 2:
            return ""  # no edit: the text stays as it is, whatever comes
        self._marks.append(token)
        if len(self._marks) == 2:
            self._edit = read_edit(self._tokenizer, self._marks)
            return ""
        # The first mark taken for both: the place where the edit starts.
        place = read_edit(self._tokenizer, [token, token])
        if place is None:
            return ""
        self._begun = True
        self._given = min(place.start, len(self._parts))
        return self._encoded.head + "".join(self._parts[: self._given])

    def finish(self) -> str:
        """Give the rest of the replacement and the text behind the edit."""
        stop = self._given if self._edit is None else max(self._given, min(self._edit.stop, len(self._parts)))
        head = "" if self._begun else self._encoded.head
        return head + self._replacement.finish() + "".join(self._parts[stop:]) + self._encoded.tail

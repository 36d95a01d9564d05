"""Streaming: pieces never split a character, and together are the answer that the template gives."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, decoders, models

from pocketseq.marks import mark_token
from pocketseq.streaming import text_stream
from pocketseq.template import EncodedInput, Template
from pocketseq.testing import byte_tokenizer
from pocketseq.tokenizer import TextTokenizer

from .tiny import EDITS, PLAIN

NO_INPUT = EncodedInput(ids=[], truncated=(), head="", lexemes=(), tail="", primary_ids=[])


def stream(template: Template, tokenizer: TextTokenizer, encoded: EncodedInput, ids: list[int]) -> list[str]:
    text = text_stream(template, tokenizer, encoded)
    return [*(text.push(token) for token in ids), text.finish()]


def test_no_piece_splits_a_character() -> None:
    """One token a byte: a character appears with its last byte, whole."""
    tokenizer = byte_tokenizer()
    pieces = stream(PLAIN, tokenizer, NO_INPUT, tokenizer.text_ids("aé€😀"))
    assert pieces == ["a", "", "é", "", "", "€", "", "", "", "😀", ""]


def test_bytes_that_never_become_a_character_come_at_the_end() -> None:
    """As in the answer itself, where they stand for something unknown."""
    tokenizer = byte_tokenizer()
    ids = tokenizer.text_ids("a€")[:-1]
    assert "".join(stream(PLAIN, tokenizer, NO_INPUT, ids)) == tokenizer.decode(ids)


def test_byte_tokens_of_a_sentencepiece_vocabulary_are_held_until_their_run_ends() -> None:
    """Its decoder takes a run of byte tokens as one, and spoils all of it where the end is broken."""
    vocabulary = {"<unk>": 0, "a": 1, "<0xE2>": 2, "<0x82>": 3, "<0xAC>": 4}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    text = TextTokenizer(tokenizer)
    for ids in ([1, 2, 3, 4, 1], [1, 2, 3, 4, 2], [2, 3, 4, 2, 3, 4], [1, 4, 1]):
        assert "".join(stream(PLAIN, text, NO_INPUT, ids)) == text.decode(ids)


def test_random_tokens_stream_to_the_template_answer(tokenizer: TextTokenizer) -> None:
    """Well-formed or not, special tokens included, in both output forms."""
    rng = random.Random(5)
    mark = tokenizer.special_id(mark_token(0)) or 0
    for text in ("for i in rnage(10):", "x", "naïve café €5 😀", "a" * 200):
        encoded = EDITS.encode(tokenizer, text)
        for _ in range(100):
            ids = [rng.randrange(tokenizer.size) for _ in range(rng.randrange(8))]
            if rng.random() < 0.8:
                ids = [mark + rng.randrange(12), mark + rng.randrange(12)][: rng.choice([1, 2, 2, 2])] + ids
            for template in (PLAIN, EDITS):
                assert "".join(stream(template, tokenizer, encoded, ids)) == template.decode(tokenizer, ids, encoded)


def test_an_edit_shows_what_stands_before_it_at_once(tokenizer: TextTokenizer) -> None:
    """The untouched start at the first mark, the replacement as it comes, the untouched rest at the end."""
    encoded = EDITS.encode(tokenizer, "for i in rnage(10):")
    ids = EDITS.encode_target(tokenizer, encoded, "for i in range(10):")
    assert ids is not None
    pieces = stream(EDITS, tokenizer, encoded, ids)
    assert pieces[:2] == ["for i in", ""]
    assert "".join(pieces[2:-1]) == " range"
    assert pieces[-1] == "(10):"


def test_what_was_cut_off_the_line_is_streamed_too(tokenizer: TextTokenizer) -> None:
    """The head comes first and the tail last, though the model saw neither."""
    long = "alpha = " + " + ".join(f"value_{number}" for number in range(60))
    encoded = EDITS.encode(tokenizer, long)
    assert encoded.head
    ids = EDITS.encode_target(tokenizer, encoded, long + ")")
    assert ids is not None
    pieces = stream(EDITS, tokenizer, encoded, ids)
    assert pieces[0].startswith(encoded.head)
    assert "".join(pieces) == long + ")"


@pytest.mark.parametrize("marks", [[], [3], [5, 3], [0, 70]])
def test_a_malformed_edit_leaves_the_line_as_it_is(tokenizer: TextTokenizer, marks: list[int]) -> None:
    """Nothing, one mark, marks in the wrong order, or no mark at all behind the first."""
    first = tokenizer.special_id(mark_token(0)) or 0
    encoded = EDITS.encode(tokenizer, "for i in rnage(10):")
    ids = [first + mark for mark in marks] + tokenizer.text_ids("junk")[: 0 if len(marks) < 2 else 9]
    assert "".join(stream(EDITS, tokenizer, encoded, ids)) == "for i in rnage(10):"

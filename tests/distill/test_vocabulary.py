"""Tokenizers that are trained with a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketseq.errors import CheckpointError, RecipeError
from pocketseq.examples import Example
from pocketseq.template import Field, Template
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.corpus.vocabulary import learn_tokenizer, train_tokenizer

from .disk import room_for

TEMPLATE = Template(fields=(Field(name="word", max_tokens=16),), primary="word")
TEXTS = ["chat", "t͡ʃ æ t", "ball", "b ɔː l̩", "that", "ð æ̃ tʰ"] * 4


def test_characters_are_tokens_of_their_own() -> None:
    """A letter or a symbol with its marks, its tie and the space before it is one token, and never more than one."""
    tokenizer = TextTokenizer(train_tokenizer(TEXTS, vocab_size=400, template=TEMPLATE, units="characters"))
    assert len(tokenizer.text_ids("chat")) == 4
    assert len(tokenizer.text_ids("t͡ʃ æ t")) == 3
    assert len(tokenizer.text_ids("b ɔː l̩")) == 3
    assert len(tokenizer.text_ids("ð æ̃ tʰ")) == 3


def test_what_was_never_seen_is_still_written_and_read() -> None:
    """Bytes stand behind the characters, so nothing is unknown."""
    tokenizer = TextTokenizer(train_tokenizer(TEXTS, vocab_size=400, template=TEMPLATE, units="characters"))
    for text in ("ŋ k̟ x", "Ω", "  two  spaces ", "line\nend", "e͡ɪ ˞"):
        assert tokenizer.decode(tokenizer.text_ids(text)) == text


def test_lexemes_are_the_default() -> None:
    """A word that is frequent enough is one token."""
    tokenizer = TextTokenizer(train_tokenizer(TEXTS, vocab_size=400, template=TEMPLATE))
    assert len(tokenizer.text_ids("chat")) == 1


def test_a_vocabulary_holds_special_tokens_and_all_bytes() -> None:
    """A smaller one would grow to that size by itself, past what a model embeds."""
    with pytest.raises(RecipeError, match="expected vocab_size of 259 or more, 3 special tokens and 256 bytes, found 258"):
        train_tokenizer(TEXTS, vocab_size=258, template=TEMPLATE)
    assert train_tokenizer(TEXTS, vocab_size=259, template=TEMPLATE).get_vocab_size() == 259


ROWS = [Example(id=str(number), fields={"word": text}, target=text) for number, text in enumerate(TEXTS)]
LEARNT: dict[str, Any] = {"vocab_size": 300, "template": TEMPLATE, "units": "lexemes"}


def test_a_vocabulary_is_learnt_once(tmp_path: Path) -> None:
    """A training that goes on finds the one that it began with, not one that is made again."""
    learn_tokenizer(ROWS, tmp_path, **LEARNT)
    written = (tmp_path / "tokenizer.json").stat().st_mtime_ns
    learn_tokenizer(list(ROWS), tmp_path, **LEARNT)
    assert (tmp_path / "tokenizer.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("rows", "change"),
    [
        (ROWS, {"vocab_size": 280}),
        (ROWS, {"units": "characters"}),
        (ROWS, {"template": Template(fields=(Field(name="word", max_tokens=16, prefix="<word>"),), primary="word")}),
        ([replace(row, target="other words") for row in ROWS], {}),
    ],
)
def test_a_vocabulary_of_something_else_is_not_kept(tmp_path: Path, rows: list[Example], change: dict[str, Any]) -> None:
    """Another size, other units, another template or other texts: what lies there would not fit the model, or not the task."""
    learn_tokenizer(ROWS, tmp_path / "again", **LEARNT)
    learn_tokenizer(rows, tmp_path / "again", **LEARNT | change)
    learn_tokenizer(rows, tmp_path / "fresh", **LEARNT | change)
    first, fresh = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("again", "fresh"))
    assert first == fresh


def test_a_vocabulary_that_tells_nothing_of_itself_is_learnt_anew(tmp_path: Path) -> None:
    """A kill may have left half of it."""
    (tmp_path / "tokenizer.json").write_text("{")
    learn_tokenizer(ROWS, tmp_path, **LEARNT)
    tokenizer = TextTokenizer.from_file(tmp_path / "tokenizer.json")
    assert tokenizer.decode(tokenizer.text_ids("chat")) == "chat"


@pytest.mark.parametrize("size_bytes", [10, 3000])
def test_a_full_disk_is_told(tmp_path: Path, size_bytes: int) -> None:
    """By whichever library finds it full; with room again the same call goes on."""
    folder = tmp_path / "tokenizer"
    words = r"tokenizer: expected a place that can be written, found: .*File too large.*; make room"
    with room_for(size_bytes), pytest.raises(CheckpointError, match=words):
        learn_tokenizer(ROWS, folder, **LEARNT)
    learn_tokenizer(ROWS, folder, **LEARNT)
    assert TextTokenizer.from_file(folder / "tokenizer.json").text_ids("chat")

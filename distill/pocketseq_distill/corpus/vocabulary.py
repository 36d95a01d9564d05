"""Train a byte-level BPE tokenizer on a corpus, lexeme by lexeme."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from pocketseq.edits import LEXEME_PATTERN
from pocketseq.errors import RecipeError
from pocketseq.examples import Example
from pocketseq.files import digest, write_json
from pocketseq.marks import MARK_TOKENS, mark_token
from pocketseq.template import Template
from pocketseq_distill.checkpoints import place_to_write

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
PAD_ID: Final = 0
END_ID: Final = 1
_ROWS: Final = 60_000
"""Rows whose text is enough to learn a vocabulary of a few thousand subwords from."""
_LEARNT_FROM: Final = "learnt_from.json"
"""File beside a tokenizer that says what it was learnt from; the last one written."""

Units: TypeAlias = Literal["lexemes", "characters"]
"""What a subword never spans two of: words and punctuation, or written characters, each with its marks and the space before it."""

_CHARACTER_PATTERN: Final = r" ?\S(?:\p{M}|\p{Lm}|˞|(?<=\x{035C}|\x{0361})\S)*|\s"
"""A letter or an IPA symbol: what modifies it belongs to it, and so does what a tie bar ties to it."""


def learn_tokenizer(
    rows: Sequence[Example], folder: Path, *, vocab_size: int, template: Template, units: Units = "lexemes"
) -> None:
    """Have in a folder the tokenizer that is learnt from some rows; one that was learnt from the same is kept, any other replaced.

    Args:
        rows: What it is to read and write.
        folder: Its directory, as Hugging Face writes one.
        vocab_size: See ``train_tokenizer``.
        template: See ``train_tokenizer``.
        units: See ``train_tokenizer``.

    Raises:
        CheckpointError: no room on the disk.
        RecipeError: fewer tokens than every vocabulary needs.
    """
    texts = [text for row in rows[:_ROWS] for text in (*row.fields.values(), row.target)]
    source = {"digest": digest([vocab_size, units, template.to_json(), texts])}
    told = folder / _LEARNT_FROM
    try:
        same = json.loads(told.read_text(encoding="utf-8")) == source
    except (OSError, ValueError):
        same = False
    if same and (folder / "tokenizer.json").is_file():
        return
    told.unlink(missing_ok=True)
    tokenizer = train_tokenizer(texts, vocab_size=vocab_size, template=template, units=units)
    with place_to_write(folder):
        save_tokenizer(tokenizer, folder)
        write_json(told, source)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, template: Template, units: Units = "lexemes") -> Tokenizer:
    """Train a tokenizer whose subwords never span two lexemes, or two characters.

    Args:
        texts: What to learn subwords from.
        vocab_size: Tokens in all, special ones included.
        template: Brings the special tokens: prefixes of its fields, and marks where it answers with edits.
        units: What no subword spans two of.

    Raises:
        RecipeError: fewer tokens than every vocabulary needs, the special ones and one for every byte.
    """
    special = [PAD, END, UNKNOWN, *(field.prefix for field in template.fields if field.prefix)]
    if template.edits:
        special += [mark_token(index) for index in range(MARK_TOKENS)]
    special = list(dict.fromkeys(special))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    least = len(special) + len(alphabet)
    if vocab_size < least:
        raise RecipeError(
            f"expected vocab_size of {least} or more, {len(special)} special tokens and {len(alphabet)} bytes, found {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE(unk_token=None, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LEXEME_PATTERN if units == "lexemes" else _CHARACTER_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer as a Hugging Face directory, so that ``AutoTokenizer`` reads it.

    Raises:
        OSError: no room on the disk.
    """
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN)
    try:
        fast.save_pretrained(str(folder))
    except Exception as error:
        if type(error) is not Exception:  # the library tells what the system said as a bare one
            raise
        raise OSError(str(error)) from error

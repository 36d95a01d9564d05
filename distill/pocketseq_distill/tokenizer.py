"""The tokenizer of a checkpoint, as its template needs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pocketseq.errors import CheckpointError
from pocketseq.marks import mark_token
from pocketseq.template import Template
from pocketseq.tokenizer import TextTokenizer

_SPECIAL: Final = re.compile(r"<[^<>\s]+>|\[[A-Z]+\]")
"""What looks like a special token in a template's literals."""
_OLDER_VOCABULARIES: Final = ("spiece.model", "sentencepiece.bpe.model", "source.spm", "vocab.json")


def read_tokenizer(path: Path, template: Template) -> TextTokenizer:
    """Read the tokenizer of a checkpoint directory, converting an older format where transformers can.

    Args:
        path: The directory.
        template: What the tokenizer is to write down.

    Raises:
        CheckpointError: there is no tokenizer, none with a fast form, or one without the special tokens of the template.
    """
    tokenizer = _read_tokenizer(path)
    if missing := _missing_tokens(tokenizer, template):
        raise CheckpointError(
            f"{path}: expected the special tokens {missing} of the input template in the vocabulary, found none of these names; "
            "train the tokenizer with them, or write a card whose template does without"
        )
    return tokenizer


def _read_tokenizer(path: Path) -> TextTokenizer:
    if (path / "tokenizer.json").is_file():
        try:
            return TextTokenizer.from_file(path / "tokenizer.json")
        except Exception as error:  # the library has no class of its own for a file that it cannot read
            raise CheckpointError(f"{path}: expected a tokenizer.json that can be read, found: {error}; fetch it again") from error
    if not any((path / name).is_file() for name in _OLDER_VOCABULARIES):  # transformers would make up an empty tokenizer
        raise CheckpointError(f"{path}: expected tokenizer.json or one of {list(_OLDER_VOCABULARIES)}, found none")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each tokenizer family fails in its own way where a file is missing
        raise CheckpointError(f"{path}: expected tokenizer.json or files that convert to it, found: {error}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError(
            f"{path}: expected a tokenizer with a fast form, found {type(tokenizer).__name__}; save a tokenizer.json there"
        )
    return TextTokenizer(backend)


def _missing_tokens(tokenizer: TextTokenizer, template: Template) -> list[str]:
    """Special tokens of a template that are ordinary text to a tokenizer: a model would read their letters."""
    literals = (template.start, template.end, *(field.prefix for field in template.fields))
    names = [name for literal in literals for name in _SPECIAL.findall(literal)]
    missing = sorted({name for name in names if tokenizer.special_id(name) is None})
    if template.edits is not None and tokenizer.special_id(mark_token(0)) is None:
        missing.append(mark_token(0))
    return missing

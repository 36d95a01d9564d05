"""The checkpoint's tokenizer as the one ``tokenizer.json`` that a device reads."""

from __future__ import annotations

import shutil
from pathlib import Path

from pocketseq.errors import CheckpointError
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export.reference import quiet_transformers


def write_tokenizer(checkpoint: Path, path: Path) -> TextTokenizer:
    """Copy a checkpoint's fast tokenizer, or convert its slow one.

    Args:
        checkpoint: A Hugging Face directory.
        path: Where ``tokenizer.json`` goes.

    Returns:
        The tokenizer, as a device reads it.

    Raises:
        CheckpointError: the directory holds no tokenizer that can be made fast; says what is missing.
    """
    if (checkpoint / "tokenizer.json").is_file():
        shutil.copyfile(checkpoint / "tokenizer.json", path)
    else:
        _convert(checkpoint, path)
    try:
        return TextTokenizer.from_file(path)
    except Exception as error:  # the tokenizers library raises nothing more special
        raise CheckpointError(f"{checkpoint}: expected a tokenizer.json of the tokenizers library, found: {error}") from error


def _convert(checkpoint: Path, path: Path) -> None:
    from transformers import AutoTokenizer

    # Without a vocabulary transformers would make up an empty tokenizer.
    there = sorted(file.name for file in checkpoint.iterdir() if file.suffix in (".model", ".spm") or "vocab" in file.name)
    backend, problem = None, "no vocabulary"
    if there:
        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False, local_files_only=True)
            backend, problem = getattr(tokenizer, "backend_tokenizer", None), "its tokenizer has no fast form"
        except Exception as error:  # whatever a converter meets in a vocabulary that is not its own
            problem = str(error).strip().partition("\n")[0]
    if backend is None:
        raise CheckpointError(
            f"{checkpoint}: expected tokenizer.json, or a vocabulary that transformers converts to one; found "
            f"{', '.join(there) or 'neither'} ({problem}); put a tokenizer.json of the same vocabulary beside config.json"
        )
    backend.save(str(path))

"""The checkpoint's tokenizer as the one ``tokenizer.json`` that a device reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pocketseq.errors import CheckpointError
from pocketseq_export.reference import quiet_transformers


def write_tokenizer(checkpoint: Path, path: Path) -> None:
    """Copy a checkpoint's fast tokenizer, or convert its slow one.

    Args:
        checkpoint: A Hugging Face directory.
        path: Where ``tokenizer.json`` goes.

    Raises:
        CheckpointError: the directory holds no tokenizer that can be made fast; says what is missing.
    """
    if (checkpoint / "tokenizer.json").is_file():
        shutil.copyfile(checkpoint / "tokenizer.json", path)
        return
    backend = _converted(checkpoint)
    backend.save(str(path))


def _converted(checkpoint: Path) -> Any:
    from transformers import AutoTokenizer

    there = sorted(file.name for file in checkpoint.iterdir() if file.suffix in (".model", ".spm", ".txt") or "vocab" in file.name)
    problem = "a tokenizer that exists in slow form only"
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False, local_files_only=True)
        backend = getattr(tokenizer, "backend_tokenizer", None)
    except Exception as error:  # whatever a converter meets in a vocabulary that is not its own
        backend, problem = None, str(error).strip().partition("\n")[0]
    if backend is None:
        raise CheckpointError(
            f"{checkpoint}: expected tokenizer.json, or a vocabulary that transformers converts to one; found "
            f"{', '.join(there) or 'neither'} ({problem}); put a tokenizer.json of the same vocabulary beside config.json"
        )
    return backend

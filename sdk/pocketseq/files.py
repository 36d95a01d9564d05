"""Files that appear whole or not at all, and hashes of files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

_NUMBERS: Final = re.compile(r"\[\n[-+.,\w\s]+\]")
"""A list without texts, lists or objects in it; within a text a line end is written ``\\n``, so that no text looks like one."""


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing that takes its name only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def append(path: Path, content: bytes) -> None:
    """Write behind what a file holds, all of it or nothing.

    Raises:
        OSError: the disk is full or fails; what was written of it is taken back.
    """
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while content:  # a disk that fills up takes a part before it fails
                content = content[file.write(content) :]
        except OSError:
            file.truncate(before)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document for people and programs; a list of nothing but numbers stands on one line."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    with writing(path) as file:
        file.write(_NUMBERS.sub(lambda found: " ".join(found.group().split()), text) + "\n")


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest(value: Any) -> str:
    """Short hex digest of JSON values, the same in every process and on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]

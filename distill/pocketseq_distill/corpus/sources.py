"""Source files of the standard library, each in one split for good."""

from __future__ import annotations

import hashlib
import sysconfig
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

Split: TypeAlias = Literal["train", "validation", "calibration", "test"]

SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "calibration", "test")

_SHARES: Final[tuple[tuple[Split, int], ...]] = (("test", 4), ("calibration", 4), ("validation", 2))
"""Percent of files that each held-out split takes; the rest is train."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One Python file."""

    name: str
    """Path below the standard library's folder, with forward slashes: the same on every machine."""
    text: str
    """Content, decoded as the file declares, with line feeds only."""
    split: Split
    """The only split that rows of this file go to."""


def split_of(name: str) -> Split:
    """Assign a file to a split by a stable hash of its name."""
    bucket = _hash(name, 0) % 100
    for split, share in _SHARES:
        if bucket < share:
            return split
        bucket -= share
    return "train"


def library_folder() -> Path:
    """Folder of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def source_files(folder: Path | None = None, *, share: float = 1.0) -> Iterator[SourceFile]:
    """Read the Python files of a folder, in the order of their names; the standard library by default.

    Installed packages are left out, as are files that do not decode (some tests of the interpreter do so on purpose) and what
    cannot be read, such as links to nowhere.

    Args:
        folder: Where to look.
        share: Share of the files to read, from 0 to 1, chosen by a stable hash of their names.
    """
    root = folder or library_folder()
    for path in sorted(root.rglob("*.py"), key=lambda item: item.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        if {"site-packages", "dist-packages", "__pycache__"} & set(path.relative_to(root).parts):
            continue
        if _hash(name, 4) >= share * 2**32:
            continue
        try:
            with tokenize.open(path) as file:
                text = file.read()
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue
        yield SourceFile(name=name, text=text, split=split_of(name))


def _hash(name: str, offset: int) -> int:
    """Four bytes of a file name's digest, from an offset on: independent choices take different bytes."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[offset : offset + 4], "big")

"""A small data set in each of the three forms in which the published ones come."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pocketseq_distill.published import tasks
from pocketseq_distill.published.files import DataFile
from pocketseq_distill.published.tasks import PUBLISHED, PublishedTask

WORDS = ("ab", "ba", "abb", "bab", "aab", "bba", "abab", "baba", "aa", "bb")


def spelled(word: str) -> str:
    """A pronunciation to learn: each letter by its symbol."""
    return " ".join({"a": "ɑ", "b": "t͡ʃ"}[letter] for letter in word)


def write(folder: Path, contents: Mapping[str, str], *, url: str | None = None) -> tuple[DataFile, ...]:
    """Write files and describe them as published."""
    files = []
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode())
        digest = hashlib.sha256(content.encode()).hexdigest()
        files.append(DataFile(name=name, rows=content.count("\n"), sha256=digest, url=url and f"{url}/{name}"))
    return tuple(files)


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path, *, like: str, contents: Mapping[str, str]) -> PublishedTask:
    """Put a small task into the place of a published one, with its template and protocol."""
    files = write(folder, contents)
    counts = [file.rows for file in files]
    rows = (6, 2, 2) if len(files) == 2 else (counts[0], counts[len(files) // 3], counts[-1])
    task = replace(PUBLISHED[like], files=files, rows=rows)
    monkeypatch.setitem(tasks.PUBLISHED, like, task)
    return task


def pronunciations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedTask:
    """Two columns, three files: words and their symbols, forty to learn, six and eight held out."""
    every = [f"{one}{other}" for one in WORDS for other in WORDS]
    parts = {"train": every[:40], "dev": every[40:46], "test": every[46:54]}
    contents = {f"g2p/{part}.tsv": "".join(f"{word}\t{spelled(word)}\n" for word in words) for part, words in parts.items()}
    return publish(monkeypatch, folder, like="g2p-en-us", contents=contents)

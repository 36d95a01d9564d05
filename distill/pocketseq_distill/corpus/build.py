"""Build a corpus: rows of one task, split by file, free of duplicates across splits, the same on every run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from pocketseq.examples import Example, write_examples
from pocketseq.files import digest, write_json
from pocketseq_distill.corpus.lines import code_lines
from pocketseq_distill.corpus.sources import SPLITS, SourceFile, Split, source_files
from pocketseq_distill.corpus.tasks import TASKS, Task

_FORMAT: Final = 1
"""Raised whenever the same settings would give other rows, so that fingerprints differ."""


@dataclass(frozen=True, slots=True)
class CorpusSettings:
    """What to build."""

    kind: str = "python-fix"
    """Name of a task in ``TASKS``."""
    seed: int = 0
    """Chooses lines and slips."""
    passes: int = 1
    """How often the library is gone through for the train split, with other slips each time."""
    train_rows: int = 1_000_000
    """Upper bound of rows in the train split."""
    held_out_rows: int = 2_000
    """Upper bound of rows in each of the other splits."""
    rows_per_file: int = 600
    """Upper bound of rows that one file gives, so that no large table of data outweighs the code."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus on disk."""

    folder: Path
    """Holds ``train.jsonl`` and so on, and ``corpus.json``."""
    fingerprint: str
    """Digest of every row's id by split: equal fingerprints mean equal data."""
    rows: dict[str, int]
    """Rows by split."""


def build_corpus(folder: Path, settings: CorpusSettings, *, library: Path | None = None) -> Corpus:
    """Write the four splits of a task and a summary.

    Args:
        folder: Where the files go.
        settings: What to build.
        library: Folder of Python files; the running interpreter's standard library by default.
    """
    task = TASKS[settings.kind]
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for file in source_files(library):
        for number in range(settings.passes if file.split == "train" else 1):
            splits[file.split].extend(file_rows(file, task, settings, number=number))
    removed = _drop_duplicates(splits)
    for split, rows in splits.items():
        Random(f"{settings.seed}/{split}").shuffle(rows)
        del rows[settings.train_rows if split == "train" else settings.held_out_rows :]
    fingerprint = digest([[row.id for row in rows] for rows in splits.values()])
    for split, rows in splits.items():
        write_examples(folder / f"{split}.jsonl", rows)
    counts = {split: len(rows) for split, rows in splits.items()}
    write_json(
        folder / "corpus.json",
        {
            "format": _FORMAT,
            "task": task.name,
            "template": task.template.to_json(),
            "max_new_tokens": task.max_new_tokens,
            "fingerprint": fingerprint,
            "rows": counts,
            "duplicates_removed": removed,
            "kinds": {split: dict(sorted(Counter(row.kind for row in rows).items())) for split, rows in splits.items()},
            "python": sys.version.split()[0],
            "seed": settings.seed,
        },
    )
    return Corpus(folder=folder, fingerprint=fingerprint, rows=counts)


def file_rows(file: SourceFile, task: Task, settings: CorpusSettings, *, number: int = 0) -> Iterator[Example]:
    """Rows that one pass takes from a file, at most ``rows_per_file`` of them, spread over the file by chance."""
    lines = list(code_lines(file.text))
    rng = Random(f"{settings.seed}/{number}/{task.name}/{file.name}")
    if len(lines) > settings.rows_per_file:
        lines = sorted(rng.sample(lines, settings.rows_per_file), key=lambda line: line.number)
    for line in lines:
        row = task.make(line, f"{file.name}:{line.number}", rng)
        if row is not None:
            yield row


def _drop_duplicates(splits: dict[Split, list[Example]]) -> dict[str, int]:
    """Keep a row of the train split once, and a place of the other splits only if no earlier split has seen it.

    A place is the true line with its neighbours, white space aside: code that was copied from file to file tests nothing.
    """
    seen: set[str] = set()
    removed: dict[str, int] = {}
    for split, rows in splits.items():
        kept: dict[str, Example] = {}
        for row in rows:
            place = _place(row)
            if split == "train":
                kept.setdefault(row.id, row)
            elif place not in seen:
                kept[place] = row
            seen.add(place)
        removed[split] = len(rows) - len(kept)
        rows[:] = kept.values()
    return removed


def _place(row: Example) -> str:
    before = row.fields.get("before", "").rstrip().rpartition("\n")[2]
    after = row.fields.get("after", "").lstrip().partition("\n")[0]
    return "\n".join(" ".join(text.split()) for text in (before, row.target, after))

"""A corpus out of a published data set: its splits as they are, and rows for calibration out of its development set."""

from __future__ import annotations

import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import Example, write_examples
from pocketseq.files import digest, write_json
from pocketseq_distill.corpus.sources import Split
from pocketseq_distill.corpus.splits import Corpus
from pocketseq_distill.published.files import data_folder, read_lines
from pocketseq_distill.published.tasks import PUBLISHED, Part, rows_of

SEEN, CLEAN = "seen", "clean"
"""Kind of a held-out row whose input or answer occurs in the train split, and of one of which neither does."""

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class PublishedSettings:
    """How much of a published data set to take; the test split is always whole."""

    train_rows: int | None = None
    """Rows of the train split, chosen by ``seed``; None for all. For a quick run."""
    seed: int = 0
    """Seed of the order of rows: data sets are sorted, and what looks at the first rows of a split is to see all kinds."""

    def __post_init__(self) -> None:
        if self.train_rows is not None and self.train_rows < 1:
            raise RecipeError(f"[corpus]: expected train_rows of 1 or more, found {self.train_rows}")


def build_published_corpus(folder: Path, settings: PublishedSettings, *, task: str, data: Path | None) -> Corpus:
    """Write the four splits of a published task.

    Every second row of the development set goes to calibration and the rest to validation, so that the test set decides nothing.
    No row is left out, those of the test set that occur in train included: their kind says so.

    Args:
        folder: Where the files go; downloads are kept in ``downloads`` beside it.
        settings: How much to take.
        task: Name of a task in ``PUBLISHED``.
        data: Folder of published data; None takes the environment's, and downloads where it names none.

    Raises:
        DataError: a file is missing or is not what was published.
    """
    lesson = PUBLISHED[task]
    source, downloads = data_folder(data), folder.with_name("downloads")
    lines = [read_lines(file, source, origin=lesson.origin, downloads=downloads) for file in lesson.files]
    published = rows_of(lesson, lines)
    for (part, pairs), expected in zip(published.items(), lesson.rows, strict=True):
        if len(pairs) != expected:
            raise DataError(f"{task}: expected {expected:,} rows in {part}, found {len(pairs):,}")
    learnt = [{_tokens(text) for text in column} for column in zip(*published["train"], strict=True)]
    field = lesson.template.primary
    splits: dict[Split, list[Example]] = {
        "train": [_example(task, "train", number, row, field) for number, row in enumerate(published["train"], start=1)]
    }
    held_out: dict[Part, list[Example]] = {
        part: [
            _example(task, part, number, row, field, kind=_kind(row, learnt)) for number, row in enumerate(published[part], start=1)
        ]
        for part in ("dev", "test")
    }
    splits |= {"validation": held_out["dev"][::2], "calibration": held_out["dev"][1::2], "test": held_out["test"]}
    for split, rows in splits.items():
        Random(f"{settings.seed}/{split}").shuffle(rows)
    splits["train"] = splits["train"][: settings.train_rows]
    fingerprint = digest([[row.id for row in rows] for rows in splits.values()])
    for split, rows in splits.items():
        write_examples(folder / f"{split}.jsonl", rows)
    counts: dict[str, int] = {split: len(rows) for split, rows in splits.items()}
    summary: dict[str, Any] = {
        "format": _FORMAT,
        "task": task,
        "template": lesson.template.to_json(),
        "max_new_tokens": lesson.max_new_tokens,
        "fingerprint": fingerprint,
        "rows": counts,
        "seen_in_train": {split: sum(row.kind == SEEN for row in rows) for split, rows in splits.items() if split != "train"},
        "origin": lesson.origin,
        "sha256": {file.name: file.sha256 for file in lesson.files},
        "python": sys.version.split()[0],
        "seed": settings.seed,
    }
    write_json(folder / "corpus.json", summary)
    return Corpus(folder=folder, fingerprint=fingerprint, rows=counts)


def _example(task: str, part: Part, number: int, row: Sequence[str], field: str, *, kind: str = "") -> Example:
    """A row with its indentation and line end gone; its place is part of its id, as published sets repeat themselves."""
    source, target = (text.strip() for text in row)
    return Example(
        id=digest([task, part, number, source, target]),
        fields={field: source},
        target=target,
        kind=kind,
        source=f"{task}/{part}:{number}",
    )


def _kind(row: Sequence[str], learnt: Sequence[Set[str]]) -> str:
    return SEEN if any(_tokens(text) in known for text, known in zip(row, learnt, strict=True)) else CLEAN


def _tokens(text: str) -> str:
    """A text with white space told alike."""
    return " ".join(text.split())

"""Splits on disk: rows without duplicates across them, shuffled and cut to size the same way on every run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq.examples import Example, write_examples
from pocketseq.files import digest, write_json
from pocketseq.template import Template
from pocketseq_distill.corpus.sources import SPLITS, Split

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus on disk."""

    folder: Path
    """Holds ``train.jsonl`` and so on, and ``corpus.json``."""
    fingerprint: str
    """Digest of every row's id by split: equal fingerprints mean equal data."""
    rows: Mapping[str, int]
    """Rows by split."""


def write_corpus(
    folder: Path,
    splits: Mapping[Split, list[Example]],
    *,
    task: str,
    template: Template,
    max_new_tokens: int,
    limits: Mapping[Split, int],
    seed: int,
    place: Callable[[Example], str],
) -> Corpus:
    """Remove duplicates, shuffle, cut and write the splits, and ``corpus.json`` with their counts.

    Args:
        folder: Where the files go.
        splits: Rows by split, in an order that does not change from run to run.
        task: Name of the task.
        template: How its inputs are read.
        max_new_tokens: Its longest answer.
        limits: Rows to keep at most, by split.
        seed: Seed of the shuffling.
        place: See ``without_duplicates``.

    Raises:
        DataError: a split of which nothing is left, because all of its rows are in those before it.
    """
    unique, removed = without_duplicates(splits, place)
    gone = [split for split, rows in unique.items() if splits[split] and not rows]
    if gone:
        raise DataError(
            f"expected rows in every split, found none for {gone} that are not in a split before as well; give each split files "
            "with rows of its own, or name train alone, whose rows are then shared out"
        )
    if any(removed.values()):
        told = ", ".join(f"{removed[split]} of {len(splits[split])} rows of {split}" for split in SPLITS if removed[split])
        print(f"left out of the corpus as duplicates: {told}", file=sys.stderr)
    for split, rows in unique.items():
        Random(f"{seed}/{split}").shuffle(rows)
        del rows[limits[split] :]
    fingerprint = digest([[row.id for row in rows] for rows in unique.values()])
    for split, rows in unique.items():
        write_examples(folder / f"{split}.jsonl", rows)
    counts: dict[str, int] = {split: len(rows) for split, rows in unique.items()}
    summary: dict[str, Any] = {
        "format": _FORMAT,
        "task": task,
        "template": template.to_json(),
        "max_new_tokens": max_new_tokens,
        "fingerprint": fingerprint,
        "rows": counts,
        "duplicates_removed": removed,
        "kinds": {split: dict(sorted(Counter(row.kind for row in rows).items())) for split, rows in unique.items()},
        "python": sys.version.split()[0],
        "seed": seed,
    }
    write_json(folder / "corpus.json", summary)
    return Corpus(folder=folder, fingerprint=fingerprint, rows=counts)


def without_duplicates(
    splits: Mapping[Split, list[Example]], place: Callable[[Example], str]
) -> tuple[dict[Split, list[Example]], dict[str, int]]:
    """Keep a row of the train split once, and a place of the other splits only if no split before it has seen it.

    Args:
        splits: Rows by split.
        place: What rows have in common of which only one tests anything, such as their input.

    Returns:
        The rows that stay, and how many went, by split.
    """
    seen: set[str] = set()
    unique: dict[Split, list[Example]] = {}
    for split in SPLITS:
        kept: dict[str, Example] = {}
        for row in splits[split]:
            found = place(row)
            if split == "train":
                kept.setdefault(row.id, row)
            elif found not in seen:
                kept[found] = row
            seen.add(found)
        unique[split] = list(kept.values())
    return unique, {split: len(splits[split]) - len(rows) for split, rows in unique.items()}


def surroundings(row: Example) -> str:
    """The answer with its neighbouring lines, white space aside: code that was copied from file to file tests nothing."""
    before = row.fields["before"].rstrip().rpartition("\n")[2]
    after = row.fields["after"].lstrip().partition("\n")[0]
    return "\n".join(" ".join(text.split()) for text in (before, row.target, after))

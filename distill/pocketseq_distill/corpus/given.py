"""A corpus out of pairs that the user brings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import Example
from pocketseq.template import Field, Template
from pocketseq_distill.corpus.sources import SPLITS, Split, split_of
from pocketseq_distill.corpus.splits import Corpus, write_corpus
from pocketseq_distill.labelling.label import source_digest
from pocketseq_distill.pairs import Columns, read_pairs


@dataclass(frozen=True, slots=True)
class PairsSettings:
    """Where the pairs are."""

    train: tuple[str, ...]
    """A ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file, ``datasets:NAME[:CONFIGURATION]``, or two parallel text files."""
    validation: tuple[str, ...] = ()
    """The same for validation; without it, this split and those that follow take their share of ``train`` by a stable hash of the
    input, so that all answers to one are in one split."""
    calibration: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    fields: dict[str, str] = field(default_factory=lambda: {"text": "source"})
    """Column of each field of the input; the first field is the primary one."""
    target: str = "target"
    """Column of the answer."""
    max_source_tokens: int = 128
    """Budget of each field; a longer text is cut on the right."""
    max_new_tokens: int = 128
    """Longest answer in tokens, end token included."""
    seed: int = 0
    """Seed of the shuffling."""

    def __post_init__(self) -> None:
        if not self.train or not self.fields:
            raise RecipeError("[pairs]: expected a file of pairs as train, and a field at least, found none")
        for name in ("max_source_tokens", "max_new_tokens"):
            if (found := getattr(self, name)) < 1:
                raise RecipeError(f"[pairs]: expected {name} of 1 or more, found {found}")

    @property
    def template(self) -> Template:
        """The fields one after the other, plain text out."""
        return Template(
            fields=tuple(Field(name=name, max_tokens=self.max_source_tokens, truncate="right") for name in self.fields),
            primary=next(iter(self.fields)),
        )


def build_pairs_corpus(folder: Path, settings: PairsSettings, *, task: str) -> Corpus:
    """Write the four splits of the user's pairs.

    Args:
        folder: Where the files go.
        settings: Where the pairs are.
        task: Name of the task.

    Raises:
        DataError: a bad row, with file and line, or a split that would be empty, with or without its duplicates.
    """
    columns = Columns(fields=settings.fields, target=settings.target)
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    given = {split: getattr(settings, split) for split in SPLITS}
    for row in _rows(given["train"], columns):
        home = split_of(source_digest(row))
        splits[home if home != "train" and not given[home] else "train"].append(row)
    for split in SPLITS[1:]:
        if given[split]:
            splits[split] = list(_rows(given[split], columns))
    empty = [split for split, rows in splits.items() if not rows]
    if empty:
        raise DataError(f"expected rows in every split, found none for {empty}; name files for them or give more training rows")
    return write_corpus(
        folder,
        splits,
        task=task,
        template=settings.template,
        max_new_tokens=settings.max_new_tokens,
        limits={split: len(rows) for split, rows in splits.items()},
        seed=settings.seed,
        place=source_digest,
    )


def _rows(names: tuple[str, ...], columns: Columns) -> list[Example]:
    return list(read_pairs(names[0] if len(names) == 1 else names, columns=columns))

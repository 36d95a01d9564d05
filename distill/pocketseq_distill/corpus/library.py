"""A corpus out of the standard library: rows of one task, each file in one split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import Example
from pocketseq_distill.corpus.lines import code_lines
from pocketseq_distill.corpus.sources import SPLITS, SourceFile, Split, source_files
from pocketseq_distill.corpus.splits import Corpus, surroundings, write_corpus
from pocketseq_distill.corpus.tasks import CLEAN_SHARE, TASKS, Task


@dataclass(frozen=True, slots=True)
class LibrarySettings:
    """How much to take from the library."""

    seed: int = 0
    """Chooses lines and slips."""
    passes: int = 1
    """How often the library is gone through for the train split, with other slips each time."""
    train_rows: int = 1_000_000
    """Upper bound of rows in the train split."""
    held_out_rows: int = 2_000
    """Upper bound of rows in each of the other splits."""
    calibration_rows: int | None = None
    """Upper bound of rows in the calibration split, where it is to be another: a promise is as good as its rows are many."""
    clean_share: float = CLEAN_SHARE
    """Share of train rows in which nothing is wrong. The other splits always have one in eight; a model that met more of them
    in training leaves more right lines alone."""
    share: float = 1.0
    """Share of the files that are read, chosen by a stable hash; less than 1 for a quick run."""
    rows_per_file: int = 600
    """Upper bound of rows that one file gives in a pass, so that no large table of data outweighs the code."""

    def __post_init__(self) -> None:
        for name in ("passes", "train_rows", "held_out_rows", "calibration_rows", "rows_per_file"):
            if (found := getattr(self, name)) is not None and found < 1:
                raise RecipeError(f"[corpus]: expected {name} of 1 or more, found {found}")
        if not 0 <= self.clean_share <= 1:
            raise RecipeError(f"[corpus]: expected clean_share from 0 to 1, found {self.clean_share}")
        if not 0 < self.share <= 1:
            raise RecipeError(f"[corpus]: expected share above 0, up to 1, found {self.share}")


def library_task(name: str) -> Task:
    """The task of that name.

    Raises:
        RecipeError: there is none.
    """
    if name not in TASKS:
        raise RecipeError(f"expected a task among {sorted(TASKS)}, or a table [pairs] that names your own rows, found {name!r}")
    return TASKS[name]


def build_library_corpus(
    folder: Path, settings: LibrarySettings, *, task: str = "python-fix", library: Path | None = None
) -> Corpus:
    """Write the four splits of a task.

    Args:
        folder: Where the files go.
        settings: How much to take.
        task: Name of a task in ``TASKS``.
        library: Folder of Python files; the running interpreter's standard library by default.

    Raises:
        DataError: a split that would be empty, with or without its duplicates.
        RecipeError: a task of another name.
    """
    lesson = library_task(task)
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for file in source_files(library, share=settings.share):
        for number in range(settings.passes if file.split == "train" else 1):
            splits[file.split].extend(file_rows(file, lesson, settings, number=number))
    empty = [split for split, rows in splits.items() if not rows]
    if empty:
        raise DataError(
            f"expected rows in every split, found none for {empty}; take a larger share of the files, or a library of more: each "
            "file gives rows to one split alone"
        )
    return write_corpus(
        folder,
        splits,
        task=task,
        template=lesson.template,
        max_new_tokens=lesson.max_new_tokens,
        limits={
            "train": settings.train_rows,
            "validation": settings.held_out_rows,
            "calibration": settings.calibration_rows or settings.held_out_rows,
            "test": settings.held_out_rows,
        },
        seed=settings.seed,
        place=surroundings,
    )


def file_rows(file: SourceFile, task: Task, settings: LibrarySettings, *, number: int = 0) -> Iterator[Example]:
    """Rows that one pass takes from a file, at most ``rows_per_file`` of them, spread over the file by chance."""
    lines = list(code_lines(file.text))
    clean_share = settings.clean_share if file.split == "train" else CLEAN_SHARE
    rng = Random(f"{settings.seed}/{number}/{task.name}/{file.name}")
    if len(lines) > settings.rows_per_file:
        lines = sorted(rng.sample(lines, settings.rows_per_file), key=lambda line: line.number)
    for line in lines:
        row = task.make(line, f"{file.name}:{line.number}", rng, clean_share)
        if row is not None:
            yield row

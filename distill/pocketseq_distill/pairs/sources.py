"""Where pairs come from: a name says which reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pocketseq.errors import DataError, MissingExtraError
from pocketseq.examples import Example
from pocketseq_distill.pairs.columns import Columns
from pocketseq_distill.pairs.files import Located, csv_rows, jsonl_rows, parallel_rows, parquet_rows

DATASET: Final = "datasets:"
"""Begins a name that is of a Hugging Face data set, and of no file."""

_READERS = {".jsonl": jsonl_rows, ".csv": csv_rows, ".tsv": csv_rows, ".parquet": parquet_rows}


def read_pairs(
    source: str | Path | Sequence[str | Path], *, columns: Columns | None = None, split: str = "train"
) -> Iterator[Example]:
    """Read pairs of input and answer.

    Args:
        source: A ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file; two text files with an input and an answer a line;
            or ``datasets:NAME`` for a Hugging Face data set, by its name on the hub or its folder; ``datasets:NAME:CONFIGURATION``
            for one of several in it.
        columns: Which columns to read; ``source`` and ``target`` if not given.
        split: Split of a Hugging Face data set.

    Raises:
        DataError: no such file, a file of another kind, two files of different length, or a bad row, with file and line.
        MissingExtraError: the library for this kind of file is not installed.
    """
    columns = columns or Columns()
    for where, row in _rows(source, columns, split):
        yield columns.example(row, where)


def _rows(source: str | Path | Sequence[str | Path], columns: Columns, split: str) -> Iterator[Located]:
    if isinstance(source, str) and source.startswith(DATASET):
        return _dataset_rows(source.removeprefix(DATASET), split)
    if isinstance(source, str | Path):
        reader = _READERS.get(Path(source).suffix.lower())
        if reader is None:
            raise DataError(f"{source}: expected a file of the kinds {sorted(_READERS)}, two text files, or '{DATASET}NAME'")
        return reader(Path(source))
    if len(source) != 2 or len(columns.fields) != 1:
        raise DataError(
            "expected two text files for one field and its answer, "
            f"found {len(source)} files and the fields {sorted(columns.fields)}"
        )
    (column,) = columns.fields.values()
    return parallel_rows(Path(source[0]), Path(source[1]), source_column=column, target_column=columns.target)


def _dataset_rows(name: str, split: str) -> Iterator[Located]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtraError("distill", error.name or "datasets") from None
    place, _, configuration = (name, "", "") if Path(name).exists() or ":" not in name else name.rpartition(":")
    where = f"{DATASET}{name}"
    try:
        rows = datasets.load_dataset(place, configuration or None, split=split)
    except Exception as error:  # the library raises whatever its readers and its network raise
        raise DataError(f"{where}: expected a data set with a split {split!r}: {error}") from error
    number = 0
    try:
        for number, row in enumerate(rows, start=1):
            yield f"{where}[{split}]: row {number}", row
    except Exception as error:  # and it decodes a row only now
        raise DataError(f"{where}[{split}]: row {number + 1}: expected a row that can be read: {error}") from error

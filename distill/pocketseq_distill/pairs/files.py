"""Tables in files: JSONL, CSV, TSV, Parquet, and two text files side by side. Every row comes with its file and line."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from pocketseq.errors import DataError, MissingExtraError

Located: TypeAlias = tuple[str, Mapping[str, Any]]
"""Where a row stands, and its values by column."""

_LONGEST_FIELD: Final = 2**31 - 1
"""What the csv module can count on every system; its own bound, 131,072 characters, is shorter than some documents."""


def jsonl_rows(path: Path) -> Iterator[Located]:
    """One JSON object a line; blank lines are passed over."""
    for number, line in text_lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: expected one JSON object a line: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield where, row


def csv_rows(path: Path) -> Iterator[Located]:
    """A header and rows, separated by commas, or by tabs in a ``.tsv``.

    Quoted values may hold line ends; blank lines are passed over.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    lines = (line for _, line in text_lines(path))
    table = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    rows = filter(None, table)
    try:
        header = next(rows, None)
        if header is None:
            raise DataError(f"{path}:1: expected a header with the names of the columns, found an empty file")
        if twice := sorted(name for name, count in Counter(filter(None, header)).items() if count > 1):
            where = f"{path}:{table.line_num}"
            raise DataError(f"{where}: expected columns with names of their own, found more than one {twice}; rename all but one")
        for values in rows:
            where = f"{path}:{table.line_num}"
            if len(values) != len(header):
                raise DataError(f"{where}: expected {len(header)} values, one for each of {header}, found {len(values)}")
            yield where, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{table.line_num}: expected well-formed CSV: {error}") from None


def parquet_rows(path: Path) -> Iterator[Located]:
    """The rows of a Parquet file, numbered from 1."""
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError("distill", error.name or "pyarrow") from None
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}: expected a Parquet file: {error}") from None


def parallel_rows(sources: Path, targets: Path, *, source_column: str, target_column: str) -> Iterator[Located]:
    """Two text files of as many lines, one input and one answer each."""
    counts = [sum(1 for _ in text_lines(path)) for path in (sources, targets)]
    if counts[0] != counts[1]:
        raise DataError(
            f"expected as many lines in {sources} as in {targets}, found {counts[0]} and {counts[1]}; "
            "from the first missing line on every pair would be wrong"
        )
    for (number, source), (_, target) in zip(text_lines(sources), text_lines(targets), strict=True):
        yield f"{sources}:{number}", {source_column: source.rstrip("\r\n"), target_column: target.rstrip("\r\n")}


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 file with their numbers and line ends; a byte-order mark is passed over.

    Raises:
        DataError: no such file, or a line that is not UTF-8.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: expected a data file, found none that can be read: {error.strerror}") from None
    with file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}: expected UTF-8, found the byte 0x{line[error.start]:02x}") from None

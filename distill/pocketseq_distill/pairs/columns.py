"""Which columns of a table are the fields of an input, and which is the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.files import digest


@dataclass(frozen=True, slots=True)
class Columns:
    """How a row of a table becomes an example."""

    fields: Mapping[str, str] = field(default_factory=lambda: {"text": "source"})
    """Column of each field of the template, the primary one first; ``translation.en`` reaches into nested columns where none
    has that name."""
    target: str = "target"
    """Column of the answer."""

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """Turn a row into an example; its id is a digest of what it holds.

        Args:
            row: Values by column.
            where: File and line, or what there is of it.

        Raises:
            DataError: naming ``where``: a missing column, a value that is no text, or a primary field of nothing but white space.
        """
        fields = {name: _text(row, column, where) for name, column in self.fields.items()}
        target = _text(row, self.target, where)
        if not next(iter(fields.values()), "").strip():
            columns = list(self.fields.values())
            raise DataError(f"{where}: expected text in the primary field, the first of the columns {columns}, found none")
        return Example(id=digest([fields, target]), fields=fields, target=target, source=where)


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value: Any = row
    for part in [column] if column in row else column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise DataError(f"{where}: expected a column {column!r}, found only {sorted(map(str, row))}")
        value = value[part]
    if not isinstance(value, str):
        raise DataError(f"{where}: expected text in column {column!r}, found {type(value).__name__}: {value!r:.80}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: expected Unicode text in column {column!r}, found a lone surrogate at character {error.start}"
        ) from None
    return value

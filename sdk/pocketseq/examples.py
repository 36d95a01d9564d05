"""Examples: the rows that pass between the stages, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketseq.characters import check_text
from pocketseq.errors import DataError, InputError
from pocketseq.files import writing


@dataclass(frozen=True, slots=True)
class Example:
    """One input with its true answer."""

    id: str
    """Stable name of the row: a hash of what it holds, so that a label can never sit beside another row's source."""
    fields: Mapping[str, str]
    """The input, by field of the template."""
    target: str
    """The true answer."""
    kind: str = ""
    """Group that reports may split by, such as the kind of slip; empty where there is none."""
    source: str = ""
    """Where the row comes from, as ``file:line``."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> Example:
        """Read one row.

        Raises:
            DataError: naming ``where``, with what was expected and found.
        """
        try:
            row = cls(**value)
        except TypeError:
            found = ", ".join(map(repr, value)) or "none"
            raise DataError(
                f"{where}: not an example row: expected 'id', 'fields' and 'target', perhaps 'kind' and 'source', found {found}"
            ) from None
        texts = [row.id, row.target, row.kind, row.source, *row.fields.values()] if isinstance(row.fields, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"{where}: expected 'id' and 'target' as strings, 'kind' and 'source' too where they are given, and 'fields' as an "
                f"object of strings, found {value!r:.200}"
            )
        try:  # JSON can escape half a character, which no file that is written of this row could hold
            for name in ("id", "target", "kind", "source"):
                check_text(name, getattr(row, name))
            check_text("names of the fields", "".join(row.fields))
            for name, text in row.fields.items():
                check_text(f"field {name!r}", text)
        except InputError as error:
            raise DataError(f"{where}: {error}") from None
        return row


def read_examples(path: str | Path, *, labelled: bool = True) -> Iterator[Example]:
    """Read rows from a JSONL file.

    Args:
        path: The file.
        labelled: Whether every row must have a target; otherwise that of a row without is empty.

    Raises:
        DataError: no such file, or a bad row, with file and line.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: expected a file of example rows, found none that can be read: {error.strerror}") from None
    with file as lines:  # decoded one by one, so that one that is no UTF-8 can be named
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            try:
                value = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(f"{where}: expected UTF-8, found the byte 0x{line[error.start]:02x}") from None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: expected one JSON object a line: {error}") from None
            if not isinstance(value, dict):
                raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}")
            yield Example.from_json(value if labelled else {"target": "", **value}, where)


def write_examples(path: Path, rows: Iterable[Example]) -> int:
    """Write rows as JSONL, aside and then renamed.

    Returns:
        How many rows were written.
    """
    count = 0
    with writing(path) as file:
        for row in rows:
            file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
            count += 1
    return count

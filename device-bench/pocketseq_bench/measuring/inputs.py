"""What is asked: real inputs of the task, with true answers where there are any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.files import digest
from pocketseq_bench.document import InputsCard

_PACKAGED: Final = files("pocketseq_bench").joinpath("inputs")


@dataclass(frozen=True, slots=True)
class BenchInputs:
    """Inputs, in the order in which they are asked."""

    origin: str
    """File, or the package's own."""
    rows: tuple[Example, ...]
    """At least one."""
    labelled: bool
    """Whether every row carries its true answer."""

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError(f"{self.origin}: expected rows to measure on, found none")

    @property
    def card(self) -> InputsCard:
        """What a document says about them."""
        return InputsCard(
            origin=self.origin,
            n=len(self.rows),
            labelled=self.labelled,
            hash=digest([[dict(row.fields), row.target] for row in self.rows]),
        )

    @classmethod
    def of_examples(cls, rows: Sequence[Example], *, origin: str) -> BenchInputs:
        """Labelled rows as they are."""
        return cls(origin=origin, rows=tuple(rows), labelled=True)


def read_inputs(path: Path) -> BenchInputs:
    """Read a JSONL file: rows with ``fields``, and with ``target`` where the true answer is known; other keys may be there.

    Raises:
        DataError: no such file, not UTF-8, a bad row, or no row at all.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: expected a file of inputs, found none that can be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, found {error}; write the file again in that encoding") from None
    return _parse(text, origin=path.name, where=str(path))


def default_inputs(task: str) -> BenchInputs:
    """Held-out rows of a task that ship inside the package.

    Raises:
        DataError: the package has none for this task.
    """
    file = _PACKAGED.joinpath(f"{task}.jsonl")
    if not file.is_file():
        raise DataError(
            f'expected --inputs FILE with one JSON object a line, such as {{"fields": {{…}}, "target": …}}, found none; '
            f"the package carries no inputs for the task {task!r}"
        )
    return _parse(file.read_text(encoding="utf-8"), origin=f"pocketseq_bench/inputs/{file.name}", where=file.name)


def _parse(text: str, *, origin: str, where: str) -> BenchInputs:
    rows, labelled = [], True
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{where}:{number}"
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: expected one JSON object a line: {error}") from None
        if not isinstance(value, Mapping) or not isinstance(value.get("fields"), dict):
            raise DataError(f"{place}: expected an object with 'fields', an object of texts, found {line:.80}")
        labelled = labelled and "target" in value
        kept = {name: value[name] for name in ("fields", "target", "kind", "source") if name in value}
        rows.append(Example.from_json({"id": str(value.get("id", number)), "target": "", **kept}, place))
    return BenchInputs(origin=origin, rows=tuple(rows), labelled=labelled)

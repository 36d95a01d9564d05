"""What was measured so far, one JSON object a line, so that an interrupted run keeps it and goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pocketseq.files import writing

NAME: Final = "bench.partial.jsonl"
_NAMES: Final = {"kind": str, "label": str, "number": int}
"""What every entry is known by."""


class Journal:
    """Entries of one run; on disk where it has a directory."""

    def __init__(self, directory: Path | None, *, fingerprint: str) -> None:
        """Open the journal of a run, and read what an interrupted one left.

        Args:
            directory: Where it lies; None keeps it in memory.
            fingerprint: Of bundle, inputs, settings and machine; what was measured under another one does not count.
        """
        self._path = None if directory is None else directory / NAME
        self._entries: list[dict[str, Any]] = []
        self._seen: set[tuple[str, str, int]] = set()
        if self._path is None:
            return
        kept = list(_read(self._path)) if self._path.exists() else []
        if not kept or kept[0] != {"fingerprint": fingerprint}:
            kept = [{"fingerprint": fingerprint}]
        for entry in kept[1:]:
            self._take(entry)
        with writing(self._path) as file:  # without the half line that a kill may have left
            file.writelines(json.dumps(entry) + "\n" for entry in kept)

    @property
    def resumed(self) -> int:
        """Entries so far."""
        return len(self._entries)

    def has(self, kind: str, label: str, number: int) -> bool:
        """Whether this was measured."""
        return (kind, label, number) in self._seen

    def add(self, kind: str, label: str, number: int, values: dict[str, Any]) -> None:
        """Keep one measurement."""
        entry = {"kind": kind, "label": label, "number": number, **values}
        self._take(entry)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def of(self, kind: str, label: str | None = None) -> list[dict[str, Any]]:
        """Measurements of a kind, by label where one is given, in the order of their numbers."""
        found = [entry for entry in self._entries if entry["kind"] == kind and label in (None, entry["label"])]
        return sorted(found, key=lambda entry: entry["number"])

    def remove(self) -> None:
        """Forget the file: its content is in the document now."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _take(self, entry: dict[str, Any]) -> None:
        self._entries.append(entry)
        self._seen.add((entry["kind"], entry["label"], entry["number"]))


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """The fingerprint and the entries up to the first line that is none: what follows it is measured again."""
    for number, line in enumerate(path.read_bytes().splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if not isinstance(entry, dict) or (number and not all(isinstance(entry.get(key), kind) for key, kind in _NAMES.items())):
            return
        yield entry

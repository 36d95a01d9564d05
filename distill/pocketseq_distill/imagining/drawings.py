"""What a reverse model drew, appended as it is drawn, so that a kill costs one piece of the work."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from pocketseq.errors import LabellingError
from pocketseq.examples import Example
from pocketseq.files import append, digest, writing


class DrawnFile:
    """A JSONL file of the texts that were drawn from each answer; every line is bound to its row and to how it was drawn."""

    def __init__(self, path: Path, claim: Mapping[str, Any]) -> None:
        """Name a file, which need not exist.

        Args:
            path: Where it is.
            claim: Who draws, and how.
        """
        self.path = path
        self._claim = digest(claim)

    def key(self, row: Example) -> str:
        """Name of what is drawn from a row's answer: the answer, the row, or the way of drawing changed, it is another."""
        return digest([self._claim, row.id, row.target])

    def open(self, keys: Container[str]) -> dict[str, list[str]]:
        """Read what was drawn under some keys; all else goes: lines of others, damaged ones, and what a kill left of the last.

        Raises:
            LabellingError: the file cannot be read or written.
        """
        found: dict[str, list[str]] = {}
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            for line in content.split(b"\n"):
                drawn = _drawn(line)
                found |= {key: texts for key, texts in drawn.items() if key in keys}
            if (whole := _lines(found)) != content:
                with writing(self.path) as file:
                    file.write(whole.decode())
        except OSError as error:
            raise self._unwritable(error) from error
        return found

    def append(self, drawn: Mapping[str, list[str]]) -> None:
        """Write what was drawn, by key, behind what is there.

        Raises:
            LabellingError: the disk is full or fails; what was written of it is taken back.
        """
        try:
            append(self.path, _lines(drawn))
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> LabellingError:
        return LabellingError(
            f"{self.path}: expected a place that can be written, found: {error}; "
            "what was drawn so far is whole: make room, and the same call goes on"
        )


def _lines(drawn: Mapping[str, list[str]]) -> bytes:
    values = [{"key": key, "texts": texts, "check": digest([key, texts])} for key, texts in drawn.items()]
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()


def _drawn(line: bytes) -> dict[str, list[str]]:
    """What a line holds, by its key; nothing where it is damaged."""
    try:
        value = json.loads(line)
        key, texts = value["key"], value["texts"]
        return {key: texts} if value["check"] == digest([key, texts]) else {}
    except (ValueError, RecursionError, TypeError, KeyError):
        return {}

"""What a run has done so far, kept in the run directory so that a killed run resumes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from pocketseq.errors import RecipeError
from pocketseq.files import write_json

STATE_FILE: Final = "state.json"
FORMAT: Final = 1


@dataclass(slots=True)
class StageRecord:
    """How far one stage has come."""

    fingerprint: str
    """What its inputs were when it was started."""
    seconds: float | None = None
    """How long it took; None while it is not finished."""


@dataclass(slots=True)
class RunState:
    """The records of a run directory; every change is written at once, aside and then renamed."""

    directory: Path
    """The run directory."""
    records: dict[str, StageRecord] = field(default_factory=dict)
    """By name of the stage."""

    @classmethod
    def read(cls, directory: Path) -> RunState:
        """Read the state of a run directory; a fresh one has done nothing.

        Raises:
            RecipeError: the file is not a state, or of a newer format.
        """
        path = directory / STATE_FILE
        if not path.exists():
            return cls(directory)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            version = value["format"]
            records = {name: StageRecord(**record) for name, record in value["stages"].items()} if version == FORMAT else {}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RecipeError(f"{path}: expected the state of a run, found {error!r}; remove the file to start over") from None
        if version != FORMAT:
            raise RecipeError(f"{path}: expected format {FORMAT}, found {version}; update pocketseq, or choose another directory")
        return cls(directory, records)

    def started(self, name: str, fingerprint: str) -> None:
        """Write down that a stage works on these inputs and is not finished."""
        self.records[name] = StageRecord(fingerprint)
        self._write()

    def finished(self, name: str, seconds: float) -> None:
        """Write down that a stage is done."""
        self.records[name].seconds = seconds
        self._write()

    def forget(self, name: str) -> None:
        """Write down that a stage has done nothing."""
        if self.records.pop(name, None) is not None:
            self._write()

    def is_started(self, name: str, fingerprint: str) -> bool:
        """Whether a stage was started on exactly these inputs."""
        record = self.records.get(name)
        return record is not None and record.fingerprint == fingerprint

    def is_finished(self, name: str, fingerprint: str) -> bool:
        """Whether a stage is done with exactly these inputs."""
        return self.is_started(name, fingerprint) and self.records[name].seconds is not None

    def _write(self) -> None:
        stages = {name: asdict(record) for name, record in self.records.items()}
        write_json(self.directory / STATE_FILE, {"format": FORMAT, "stages": stages})

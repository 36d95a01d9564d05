"""``bench.json``: what a benchmark found, as records; every time is in milliseconds, every size in bytes, every share in 0…1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq.files import writing
from pocketseq.records import plain, read_record
from pocketseq_bench.row import Reading, Row, Samples

FORMAT: Final = 1
"""Version of the document; ``schema/bench-1.json`` describes it."""


@dataclass(frozen=True, slots=True)
class BundleCard:
    """What was measured."""

    name: str
    version: str
    task: str
    hash: str
    """Digest over all files of the bundle."""

    @property
    def title(self) -> str:
        """What it does, and its own name where that is another: many a bundle is called after its folder."""
        return self.task if self.name in {self.task, "bundle"} else f"{self.task} ({self.name})"


@dataclass(frozen=True, slots=True)
class InputsCard:
    """What it was measured on."""

    origin: str
    """File, or the package's own."""
    n: int
    """Inputs."""
    labelled: bool
    """Whether they carry true answers."""
    hash: str
    """Digest of inputs and answers."""


@dataclass(frozen=True, slots=True)
class DeviceCard:
    """The machine; no host or user name."""

    processor: str
    machine: str
    """Architecture, such as ``x86_64`` or ``aarch64``."""
    extensions: tuple[str, ...]
    """Instruction sets that matter to a model, such as ``avx512_vnni`` or ``asimddp``; empty where the system does not tell."""
    physical_cores: int | None
    logical_cores: int
    """That this process may use."""
    memory_bytes: int | None
    os: str
    power_mode: Reading
    """1 for mains, 0 for battery; the reason names the governor or power plan."""
    python: str
    libraries: Mapping[str, str]
    """Versions of those that take part."""

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{self.processor} ({self.machine}, {self.os.split()[0]})"


@dataclass(frozen=True, slots=True)
class MachineState:
    """How warm and how fast the machine was at one moment."""

    temperature_c: Reading
    """The hottest sensor of the processor."""
    frequency_mhz: Reading
    """Mean over the cores."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """How the machine behaved while it measured, and what measuring cost."""

    seconds: float
    """From first to last measurement."""
    quiet: bool
    """Whether two such runs may be expected to agree within 5% at the median."""
    verdict: str
    """The same in words, with what was noisy and how much."""
    loop_ms: Samples
    """A fixed loop that was timed before every turn: its spread is the machine's, not the model's."""
    loop_spread: float
    """Half the distance between its 10th and 90th percentile over rounds, as a share of its median."""
    steal: Reading
    """Share of processor time that the hypervisor took away."""
    others: Reading
    """Share of the processors' time that other programs used."""
    harness_overhead: float | None
    """What timing each call adds to the processor time of a bare loop, as a share: with the fastest configuration, where it weighs
    most; in either order by turns, the median of all pairs."""
    before: MachineState
    after: MachineState
    cooldown_s: float
    """Time spent waiting for the machine to cool down."""
    resumed: bool = False
    """Whether some of it was measured by an earlier run that was interrupted."""
    waited: Reading = field(default=Reading(None))
    """Share of the suggestions' time in which they waited for a processor that others had; of one-threaded configurations."""
    harness_overhead_at_most: float | None = None
    """Upper end of the 95% interval of the harness's overhead."""


@dataclass(frozen=True, slots=True)
class BenchDocument:
    """One benchmark of one bundle on one device."""

    made_at: str
    """UTC, ISO 8601."""
    bundle: BundleCard
    inputs: InputsCard
    settings: Mapping[str, Any]
    """As ``BenchSettings`` has them."""
    device: DeviceCard
    conduct: Conduct
    rows: tuple[Row, ...]
    rivals: Mapping[str, Any] = field(default_factory=dict)
    """What other libraries took on the same machine in the same run; empty where they were not asked for."""
    format: int = FORMAT

    def row(self, label: str) -> Row | None:
        """The row of this label, if there is one."""
        return next((row for row in self.rows if row.label == label), None)


def write_document(path: Path, document: BenchDocument) -> None:
    """Write a document as JSON."""
    values = plain(document)
    write_compact_json(path, {"format": values.pop("format"), **values})


def write_compact_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs; a list or an object that holds no other takes one line."""
    with writing(path) as file:
        file.write(_compact(value, "\n") + "\n")


def _compact(value: Any, line: str) -> str:
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if not any(isinstance(part, dict | list) for part in parts):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    deeper = line + " "
    if isinstance(value, list):
        return f"[{deeper}{f',{deeper}'.join(_compact(part, deeper) for part in value)}{line}]"
    named = (f"{json.dumps(str(name), ensure_ascii=False)}: {_compact(part, deeper)}" for name, part in value.items())
    return f"{{{deeper}{f',{deeper}'.join(named)}{line}}}"


def read_document(path: Path) -> BenchDocument:
    """Read a document.

    Raises:
        DataError: not there, no benchmark, or of another format.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected the JSON of a benchmark, found none: {error}") from None
    return document_of(value, where=str(path))


def document_of(value: object, *, where: str) -> BenchDocument:
    """Check JSON values and make a document of them.

    Raises:
        DataError: no benchmark, or of another format.
    """
    found = value.get("format") if isinstance(value, dict) else None
    if not isinstance(value, dict) or "conduct" not in value or type(found) is not int:
        raise DataError(f"{where}: expected the JSON that `pocketseq bench` writes, found another document")
    if found != FORMAT:
        remedy = "update pocketseq" if found > FORMAT else "measure again with this pocketseq"
        raise DataError(f"{where}: expected a benchmark of format {FORMAT}, found {found}; {remedy}")
    return read_record(BenchDocument, value, where=where, error=DataError)

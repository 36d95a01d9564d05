"""``bench.json``: what a benchmark found, as records; every time is in milliseconds, every size in bytes, every share in 0…1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pocketseq.errors import DataError
from pocketseq.files import writing
from pocketseq.records import plain, read_record

FORMAT: Final = 1
"""Version of the document; ``schema/bench-1.json`` describes it."""

Status: TypeAlias = Literal["measured", "unavailable", "crashed", "failed"]
"""``unavailable``: its runtime is not installed, or cannot run it; ``crashed``: its process died; ``failed``: it raised, or gave no
answer in time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A number that a device may not be able to tell."""

    value: float | None
    """The number, its unit in the name of the field that holds it; null where it cannot be read."""
    reason: str = ""
    """Why it cannot be read, or how it was."""


@dataclass(frozen=True, slots=True)
class Samples:
    """How long one thing took, again and again; percentiles are interpolated between samples."""

    p50: float
    """Median, ms."""
    p90: float
    """ms."""
    p95: float
    """ms."""
    p99: float
    """ms."""
    low: float
    """Lower end of the 95% interval of the median, ms; bootstrapped over rounds, as what disturbs a machine lasts for a while."""
    high: float
    """Upper end of it, ms."""
    rounds: tuple[tuple[float, ...], ...]
    """Raw samples, ms, by round; warm-up not included."""


@dataclass(frozen=True, slots=True)
class Startup:
    """What a fresh process waits for, the interpreter's own start not included; one sample for each process."""

    import_ms: Samples
    """Importing the SDK, with numpy and all else that it brings."""
    load_ms: Samples
    """Checking hashes, opening tokenizer and runtime."""
    first_ms: Samples
    """The first answer, which the runtime may still prepare for."""


@dataclass(frozen=True, slots=True)
class Forced:
    """Answers of a fixed length: equal work for all variants and devices. What is decoded past the natural end has no meaning."""

    tokens: int
    """Length of every answer."""
    total_ms: Samples
    """End to end."""
    per_token_ms: Samples
    """Decoder and choice of tokens, for one token."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Many inputs at once."""

    batch: int
    """Inputs in one call."""
    per_second: float
    """Suggestions a second, by the median call."""
    call_ms: Samples
    """Time of one call."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of the process that answers."""

    imported_bytes: Reading
    """After importing the SDK, before a model is there."""
    loaded_bytes: Reading
    """After loading."""
    steady_bytes: Reading
    """After the last round."""
    peak_bytes: Reading
    """The most that it ever was."""


@dataclass(frozen=True, slots=True)
class Sustained:
    """Answering without a pause, to see whether the device slows down."""

    minutes: float
    """How long."""
    window_s: float
    """Length of one window."""
    medians_ms: tuple[float, ...]
    """Median of one suggestion, by window."""
    slowdown: float
    """Median of the last quarter of the windows over that of the first; 1.2 is a fifth slower."""
    temperature_c: Reading
    """At the end."""


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration: a variant with a number of threads."""

    runtime: str
    precision: str
    threads: int
    """Threads for one call."""
    hash: str
    """``Variant.hash``: another export has another one."""
    size_bytes: int
    """The variant's files on disk."""
    status: Status
    problem: str = ""
    """Why there are no numbers, or not all of them; ends in what mends it where something does."""
    pinned: Reading = field(default=Reading(None))
    """Number of processors that the process was held to; the reason names them, or says why it was not."""
    startup: Startup | None = None
    """With the bundle's files in the page cache."""
    cold: Startup | None = None
    """With the bundle's files dropped from the page cache before; null where the system does not permit it."""
    cold_reason: str = ""
    """How far the files were dropped, or why not."""
    stages_ms: Mapping[str, Samples] = field(default_factory=dict)
    """``total`` (text in, text out), ``tokenize``, ``encode``, ``decode``, ``per_token`` (decode by tokens of the answer), and
    ``detokenize`` (with the confidence): real inputs, natural lengths, one at a time."""
    tokens: float | None = None
    """Mean length of an answer, in tokens."""
    forced: Forced | None = None
    throughput: tuple[Throughput, ...] = ()
    memory: Memory | None = None
    cpu_ms: float | None = None
    """Processor time of one suggestion, all threads together, ms."""
    energy_mj: Reading = field(default=Reading(None))
    """Energy of one suggestion, mJ, the idle power of what the sensor covers included."""
    quality: Mapping[str, float | None] = field(default_factory=dict)
    """Of the very answers that were timed, by name; empty where the inputs carry no true answers."""
    quality_n: int = 0
    """Inputs that the quality is taken over."""
    parity: Mapping[str, Any] = field(default_factory=dict)
    """How its answers agree with the checkpoint's, as the bundle says; empty where it was not judged."""
    stop: Literal["", "precise", "time"] = ""
    """Why measuring ended: the interval was narrow enough, or the time was up."""
    spread: float | None = None
    """Farther end of the interval of the median, as a share of it."""
    halves: float | None = None
    """Median of the second half of the rounds over that of the first: what two runs would have differed by."""
    relative: Reading = field(default=Reading(None))
    """How many times as long as the first row it takes: the median over rounds, in each of which both were asked the same inputs at
    about the same time: it holds where times do not, as on a busy machine."""
    sustained: Sustained | None = None

    @property
    def label(self) -> str:
        """Name for people, such as ``onnx/int8`` or ``onnx/int8 ×2``."""
        return f"{self.runtime}/{self.precision}" + (f" ×{self.threads}" if self.threads > 1 else "")


@dataclass(frozen=True, slots=True)
class BundleCard:
    """What was measured."""

    name: str
    version: str
    task: str
    hash: str
    """Digest over all files of the bundle."""


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
    """What timing each call adds to calling in a bare loop, as a share; alternating, the median of all pairs."""
    before: MachineState
    after: MachineState
    cooldown_s: float
    """Time spent waiting for the machine to cool down."""
    resumed: bool = False
    """Whether some of it was measured by an earlier run that was interrupted."""


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
    except (OSError, ValueError) as error:
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

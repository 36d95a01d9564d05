"""One configuration of a benchmark: its samples, and what it takes; times in milliseconds, sizes in bytes, shares in 0…1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

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
class Relative:
    """How many times as long as another configuration one takes for the same inputs: the median over rounds, in each of which both
    were asked at about the same time. It holds where times do not, as on a busy machine.
    """

    value: float | None
    """The ratio; null where one of the two was not measured."""
    reason: str = ""
    """Against which configuration and by which clock, or why there is none."""
    low: float | None = None
    """Lower end of its 95% interval, bootstrapped over rounds."""
    high: float | None = None
    """Upper end of it."""

    @property
    def spread(self) -> float | None:
        """Farther end of the interval, as a share of the ratio."""
        if not self.value or self.low is None or self.high is None:
            return None
        return max(self.high - self.value, self.value - self.low) / self.value


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
    """Importing the SDK, with numpy and all else that it brings; JSON alone is there already, which carries the request."""
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
    """Length of one window, the mean: each ends with a turn."""
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
    """Processor time of one suggestion, all threads together, ms: the mean of a turn, the median of these."""
    processor_ms: Samples | None = None
    """The same by call; null where the system's clock is too coarse."""
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
    by_processor: bool = False
    """Whether one thread of a processor does all the work, so that its time is what a suggestion takes without neighbours."""
    relative: Relative = field(default=Relative(None))
    """How many times as long as the first row that was measured it takes."""
    sustained: Sustained | None = None

    @property
    def label(self) -> str:
        """Name for people, such as ``onnx/int8`` or ``onnx/int8 ×2``."""
        return f"{self.runtime}/{self.precision}" + (f" ×{self.threads}" if self.threads > 1 else "")

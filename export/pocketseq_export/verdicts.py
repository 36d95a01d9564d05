"""What was found of a bundle's variants, and the rule by which one holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pocketseq.manifest import Parity
from pocketseq.metrics import RowMetrics
from pocketseq.records import plain
from pocketseq_export.selection import Selection

FORMAT: Final = 1
FP32_IDENTICAL: Final = 0.995
"""Share of generations in which a variant at full precision must say exactly what PyTorch says: it is the same function."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one variant."""

    runtime: str
    precision: str
    hash: str
    """``Variant.hash`` of what was judged."""
    size_bytes: int
    parity: Parity | None
    """Agreement with the checkpoint in PyTorch; None where the variant could not run here, or gives what is no number."""
    metrics: RowMetrics | None
    """Answers against the truth; None where the variant could not run here."""
    latency_ms: float | None
    """Median of one answer end to end, one thread, one at a time, on this machine; None where the variant could not run here."""
    kept: bool
    """Whether it may stay in the bundle; a verification that drops nothing leaves the others there too."""
    reason: str
    """Why it does not hold, or could not run here; empty where it holds."""
    kept_layers: tuple[str, ...] = ()
    """Layers that broke at this precision and are held in a higher one."""

    @property
    def label(self) -> str:
        """Name for people, such as ``onnx/int8``."""
        return f"{self.runtime}/{self.precision}"

    @property
    def checked(self) -> bool:
        """Whether it ran here."""
        return self.metrics is not None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found of a bundle."""

    bundle: str
    """Its name."""
    inputs: int
    """Held-out rows that were asked."""
    tolerance: float
    """Exact match that a variant may lose against the checkpoint, as a fraction."""
    checkpoint: RowMetrics
    """The checkpoint's own answers against the truth, in PyTorch."""
    variants: tuple[Verdict, ...]
    """One for each variant."""
    selection: Selection | None = None
    """What was chosen of them; None where nothing was asked to be chosen."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values, the format first."""
        values: dict[str, Any] = plain(self)
        return {"format": FORMAT, **values}


def shortfall(precision: str, parity: Parity | None, metrics: RowMetrics, *, truth: RowMetrics, tolerance: float) -> str:
    """Say why a variant does not hold; empty where it does.

    Args:
        precision: The variant's.
        parity: Its agreement with the checkpoint; None where it gives what is no number.
        metrics: Its answers against the truth.
        truth: The checkpoint's answers against the truth.
        tolerance: Exact match that may be lost, as a fraction. One row always may: it cannot be told from chance.
    """
    if parity is None:
        return "log-probabilities that are no numbers"
    chance = 1 / metrics.n + 1e-9
    if truth.exact_match - metrics.exact_match > max(tolerance, chance):
        return f"exact match {metrics.exact_match:.3f} where the checkpoint has {truth.exact_match:.3f}, tolerance {tolerance}"
    if precision == "fp32" and 1 - parity.identical_generations > max(1 - FP32_IDENTICAL, chance):
        return f"{parity.identical_generations:.3f} of generations identical where fp32 must reach {FP32_IDENTICAL}"
    return ""


def describe(verdict: Verdict) -> str:
    """One line for people."""
    start = f"{verdict.label}: {verdict.size_bytes / 1e6:.1f} MB"
    parity, metrics = verdict.parity, verdict.metrics
    if metrics is None:
        return f"{start}, not checked on this machine: {verdict.reason}"
    if parity is None:
        return f"{start}; falls short: {verdict.reason}"
    words = (
        f"{start}, {parity.identical_generations:.1%} of {parity.inputs} generations identical, exact match "
        f"{metrics.exact_match:.1%}, log-probability difference at most {parity.max_abs_logit_difference:.2g} and on average "
        f"{parity.mean_abs_logit_difference:.2g}, {verdict.latency_ms:.1f} ms"
    )
    if verdict.kept_layers:
        words += f"; in higher precision: {', '.join(verdict.kept_layers)}"
    if verdict.reason:
        words += f"; {'degraded' if verdict.kept else 'falls short'}: {verdict.reason}"
    return words

"""One variant before its judge: it answers the questions that the checkpoint answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketseq.bundle import Bundle
from pocketseq.errors import RuntimeUnavailableError
from pocketseq.examples import Example
from pocketseq.manifest import Variant
from pocketseq.metrics import RowMetrics, evaluate_rows
from pocketseq.runtimes.opening import require_runtime
from pocketseq_export.parity import Question, compare
from pocketseq_export.reference import Reference
from pocketseq_export.verdicts import Verdict, shortfall


@dataclass(frozen=True, slots=True)
class Judge:
    """The questions, the checkpoint's answers to them, and how much may be lost."""

    reference: Reference
    """The checkpoint."""
    questions: Sequence[Question]
    """What was asked, with its answers."""
    examples: Sequence[Example]
    """The rows behind them, with the truth."""
    primary: str
    """The template's field that an answer replaces."""
    truth: RowMetrics
    """The checkpoint's own answers against the truth."""
    tolerance: float
    """Exact match that may be lost, as a fraction."""

    def judge(self, bundle: Bundle, variant: Variant) -> Verdict:
        """Let a variant answer; one whose runtime is not here is kept, unchecked."""
        verdict = Verdict(
            runtime=variant.runtime,
            precision=variant.precision,
            hash=variant.hash,
            size_bytes=variant.size_bytes,
            parity=None,
            metrics=None,
            latency_ms=None,
            kept=True,
            reason="",
            kept_layers=variant.kept_layers,
        )
        try:
            require_runtime(variant)
        except RuntimeUnavailableError as error:
            return replace(verdict, reason=str(error))
        found = compare(self.reference, bundle, variant, self.questions)
        metrics = evaluate_rows(self.examples, found.answers, primary=self.primary)
        reason = shortfall(variant.precision, found.parity, metrics, truth=self.truth, tolerance=self.tolerance)
        return replace(verdict, parity=found.parity, metrics=metrics, latency_ms=found.latency_ms, kept=not reason, reason=reason)


@dataclass(frozen=True, slots=True)
class Judged:
    """A variant, where its files lie, and what was found of it."""

    variant: Variant
    directory: Path
    """The bundle, or the trial beside it."""
    verdict: Verdict

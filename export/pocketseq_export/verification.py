"""Judging a bundle: each variant's generations against the checkpoint's, and its answers against the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketseq.bundle import Bundle, open_bundle, write_manifest
from pocketseq.errors import BundleError, DataError
from pocketseq.examples import Example
from pocketseq.manifest import Manifest, Parity, Variant
from pocketseq.metrics import RowMetrics, evaluate_rows
from pocketseq.records import plain
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export.packing import remove_variant

if TYPE_CHECKING:
    from pocketseq_export.parity import Comparison

FORMAT: Final = 1
FP32_IDENTICAL: Final = 0.99
"""Share of generations in which a variant at full precision must say exactly what PyTorch says: it is the same function."""
QUALITY: Final = ("exact_match", "edit_similarity", "chrf", "parses", "repaired", "false_alarms")
"""Measures that go into the manifest."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one variant."""

    runtime: str
    precision: str
    hash: str
    """``Variant.hash`` of what was judged."""
    size_bytes: int
    parity: Parity
    """Agreement with the checkpoint in PyTorch."""
    mean_abs_logit_difference: float
    """Mean difference of log-probabilities on the same prefixes."""
    metrics: RowMetrics
    """Answers against the truth."""
    kept: bool
    """Whether the bundle holds it."""
    reason: str
    """Why it is not kept; empty where it is."""

    @property
    def label(self) -> str:
        """Name for people, such as ``onnx/int8``."""
        return f"{self.runtime}/{self.precision}"


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

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values, the format first."""
        values: dict[str, Any] = plain(self)
        return {"format": FORMAT, **values}


def verify_bundle(
    bundle: Path,
    checkpoint: Path,
    examples: Sequence[Example],
    *,
    tolerance: float = 0.01,
    report: Callable[[str], None] | None = None,
) -> Verification:
    """Judge every variant of a bundle, write what was found into its manifest, and drop the variants that lost too much.

    Args:
        bundle: A bundle directory.
        checkpoint: What the bundle was exported from.
        examples: Held-out rows; never those of the test split, since what is found here chooses what ships.
        tolerance: Exact match that a variant may lose against the checkpoint, as a fraction. One row is always allowed.
        report: Takes one line of progress.

    Returns:
        What was found.

    Raises:
        BundleError: no variant holds; the bundle is then left as it was.
        BundleCorruptError: a file is not as the manifest says.
        CheckpointError: not a checkpoint of a supported architecture.
        DataError: no rows.
    """
    from pocketseq_export.parity import ask_checkpoint, compare
    from pocketseq_export.reference import Reference

    if not examples:
        raise DataError("expected held-out rows to verify with, found none")
    reference = Reference.load(checkpoint)
    with open_bundle(bundle) as opened:
        check_files(opened)
        manifest = opened.manifest
        tokenizer = TextTokenizer.from_file(opened.path(manifest.tokenizer))
        questions = ask_checkpoint(reference, tokenizer, [row.fields for row in examples])
        primary = manifest.template.primary
        truth = evaluate_rows(examples, [question.text for question in questions], primary=primary)
        verdicts = []
        for variant in manifest.variants:
            found = compare(reference, opened, variant, questions)
            verdict = _judge(variant, found, examples, primary=primary, truth=truth, tolerance=tolerance)
            verdicts.append(verdict)
            if report is not None:
                report(describe(verdict))
    _apply(bundle, manifest, verdicts)
    return Verification(bundle=manifest.name, inputs=len(examples), tolerance=tolerance, checkpoint=truth, variants=tuple(verdicts))


def check_files(bundle: Bundle) -> None:
    """Check the hash and size of every file of a bundle.

    Raises:
        BundleCorruptError: naming the first that is missing, truncated or changed.
    """
    bundle.path(bundle.manifest.tokenizer)
    for variant in bundle.manifest.variants:
        bundle.paths(variant.files)


def describe(verdict: Verdict) -> str:
    """One line for people."""
    parity, metrics = verdict.parity, verdict.metrics
    return (
        f"{verdict.label}: {verdict.size_bytes / 1e6:.1f} MB, {parity.identical_generations:.1%} of {parity.inputs} generations "
        f"identical, exact match {metrics.exact_match:.1%}, largest log-probability difference "
        f"{parity.max_abs_logit_difference:.2g}" + ("" if verdict.kept else f"; not kept: {verdict.reason}")
    )


def _judge(
    variant: Variant, found: Comparison, examples: Sequence[Example], *, primary: str, truth: RowMetrics, tolerance: float
) -> Verdict:
    metrics = evaluate_rows(examples, found.answers, primary=primary)
    reason = ""
    # The difference of a single row cannot be told from chance.
    if truth.exact_match - metrics.exact_match > max(tolerance, 1 / metrics.n) + 1e-9:
        reason = f"exact match {metrics.exact_match:.3f} where the checkpoint has {truth.exact_match:.3f}, tolerance {tolerance}"
    elif variant.precision == "fp32" and found.parity.identical_generations < FP32_IDENTICAL:
        reason = f"{found.parity.identical_generations:.3f} of generations identical where fp32 must reach {FP32_IDENTICAL}"
    return Verdict(
        runtime=variant.runtime,
        precision=variant.precision,
        hash=variant.hash,
        size_bytes=variant.size_bytes,
        parity=found.parity,
        mean_abs_logit_difference=found.mean_abs_logit_difference,
        metrics=metrics,
        kept=not reason,
        reason=reason,
    )


def _apply(bundle: Path, manifest: Manifest, verdicts: Sequence[Verdict]) -> None:
    """Write quality and parity of the variants that hold, and remove the files of the others."""
    kept: list[Variant] = []
    dropped: list[Variant] = []
    for variant, verdict in zip(manifest.variants, verdicts, strict=True):
        quality = {name: value for name in QUALITY if (value := getattr(verdict.metrics, name)) is not None}
        (kept if verdict.kept else dropped).append(replace(variant, quality=quality, parity=verdict.parity))
    if not kept:
        reasons = "; ".join(f"{verdict.label}: {verdict.reason}" for verdict in verdicts)
        raise BundleError(f"{bundle}: expected a variant that answers as well as the checkpoint, found none ({reasons})")
    write_manifest(bundle, replace(manifest, variants=tuple(kept)))
    for variant in dropped:
        remove_variant(bundle, variant)

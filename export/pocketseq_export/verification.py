"""Judging a bundle: each variant's generations against the checkpoint's, and its answers against the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from pocketseq.bundle import Bundle, open_bundle, write_manifest
from pocketseq.errors import BundleError, DataError
from pocketseq.examples import Example
from pocketseq.manifest import Manifest, Variant
from pocketseq.metrics import RowMetrics, evaluate_rows
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export.packing import remove_variant
from pocketseq_export.selection import Candidate, Limits, Selection, choose
from pocketseq_export.verdicts import Verdict, Verification, describe

if TYPE_CHECKING:
    from pocketseq_export.judging import Judged

QUALITY: Final = ("exact_match", "edit_similarity", "chrf", "parses", "repaired", "false_alarms")
"""Measures that go into the manifest."""


def verify_bundle(
    bundle: Path,
    checkpoint: Path,
    examples: Sequence[Example],
    *,
    tolerance: float = 0.01,
    allow_degraded: bool = False,
    mend: bool = False,
    limits: Limits | None = None,
    drop: bool = True,
    report: Callable[[str], None] | None = None,
) -> Verification:
    """Judge every variant of a bundle, write what was found into its manifest, and drop the variants that lost too much.

    Args:
        bundle: A bundle directory.
        checkpoint: What the bundle was exported from.
        examples: Held-out rows; never those of the test split, since what is found here chooses what ships.
        tolerance: Exact match that a variant may lose against the checkpoint, as a fraction. One row is always allowed.
        allow_degraded: Keep variants that lost more all the same; the manifest then says so. Not those that give no numbers.
        mend: Write a variant that lost too much anew with its most fragile layers in a higher precision, until it holds.
        limits: Keep one variant of each runtime, the smallest or fastest within these; None keeps all that hold.
        drop: Remove the files of variants that are not kept; otherwise a bundle with such a variant is left as it was.
        report: Takes one line of progress.

    Returns:
        What was found.

    Raises:
        BundleError: not a directory; or no variant is left to keep, and the bundle is left as it was.
        BundleCorruptError: a file is not as the manifest says.
        CheckpointError: not a checkpoint of a supported architecture.
        DataError: no rows.
    """
    from pocketseq_export.judging import Judge, Judged
    from pocketseq_export.mending import mended
    from pocketseq_export.parity import ask_checkpoint
    from pocketseq_export.reference import Reference

    if not examples:
        raise DataError("expected held-out rows to verify with, found none")
    if not bundle.is_dir():
        raise BundleError(f"{bundle}: expected a bundle directory, whose manifest can be rewritten, found none; unpack it first")
    say = report or (lambda _: None)
    reference = Reference.load(checkpoint)
    with open_bundle(bundle) as opened, _beside(bundle) as folder:
        check_files(opened)
        manifest = opened.manifest
        tokenizer = TextTokenizer.from_file(opened.path(manifest.tokenizer))
        questions = ask_checkpoint(reference, tokenizer, [row.fields for row in examples])
        primary = manifest.template.primary
        truth = evaluate_rows(examples, [question.text for question in questions], primary=primary)
        judge = Judge(reference, questions, examples, primary, truth, tolerance)
        judged = []
        for variant in manifest.variants:
            found = Judged(variant, bundle, judge.judge(opened, variant))
            if mend and not found.verdict.kept:
                say(describe(found.verdict) + "; trying its fragile layers in a higher precision")
                found = mended(judge, opened, found, folder) or found
            if allow_degraded and found.verdict.parity is not None and not found.verdict.kept:
                found = replace(found, verdict=replace(found.verdict, kept=True))
            judged.append(found)
            say(describe(found.verdict))
        selection = None if limits is None else choose([_candidate(each.verdict, truth) for each in judged], limits)
        judged = [_selected(each, selection) for each in judged]
        if drop or all(each.verdict.kept for each in judged):
            _apply(bundle, manifest, judged)
    verdicts = tuple(each.verdict for each in judged)
    return Verification(manifest.name, len(examples), tolerance, checkpoint=truth, variants=verdicts, selection=selection)


def check_files(bundle: Bundle) -> None:
    """Check the hash and size of every file of a bundle.

    Raises:
        BundleCorruptError: naming the first that is missing, truncated or changed.
    """
    bundle.path(bundle.manifest.tokenizer)
    for variant in bundle.manifest.variants:
        bundle.paths(variant.files)


@contextmanager
def _beside(bundle: Path) -> Iterator[Path]:
    """A folder for trials on the bundle's own disk, so that what holds can be moved in."""
    with TemporaryDirectory(prefix=f".{bundle.name}.", dir=bundle.resolve().parent) as folder:
        yield Path(folder)


def _candidate(verdict: Verdict, truth: RowMetrics) -> Candidate:
    found = None if verdict.metrics is None else verdict.metrics.exact_match
    return Candidate(
        label=verdict.label,
        size_mb=verdict.size_bytes / 1e6,
        exact_match=found,
        quality_drop=None if found is None else truth.exact_match - found,
        latency_ms=verdict.latency_ms,
        fault=verdict.reason if not verdict.kept or found is None else "",
    )


def _selected(judged: Judged, selection: Selection | None) -> Judged:
    if selection is None or not judged.verdict.kept or judged.variant.label in selection.chosen:
        return judged
    (why,) = (candidate.why for candidate in selection.candidates if candidate.label == judged.variant.label)
    return replace(judged, verdict=replace(judged.verdict, kept=False, reason=why))


def _recorded(judged: Judged) -> Variant:
    """The variant with what was found of it."""
    verdict = judged.verdict
    if verdict.metrics is None:
        return replace(judged.variant, unchecked=verdict.reason)
    quality = {name: value for name in QUALITY if (value := getattr(verdict.metrics, name)) is not None}
    return replace(judged.variant, quality=quality, parity=verdict.parity, degraded=verdict.reason or None, unchecked=None)


def _apply(bundle: Path, manifest: Manifest, judged: Sequence[Judged]) -> None:
    """Write what was found of the variants that hold, and remove the files of the others; the manifest never names a file that
    is not there.
    """
    kept = [each for each in judged if each.verdict.kept]
    if not kept:
        reasons = "; ".join(f"{each.variant.label}: {each.verdict.reason}" for each in judged)
        raise BundleError(f"{bundle}: expected a variant that answers as well as the checkpoint, found none ({reasons})")
    staying = [_recorded(each) for each in kept if each.directory == bundle]
    write_manifest(bundle, replace(manifest, variants=tuple(staying)))
    for variant in manifest.variants:
        if variant.label not in {each.label for each in staying}:
            remove_variant(bundle, variant)
    for each in kept:
        if each.directory != bundle:
            for file in each.variant.files:
                (bundle / file.path).parent.mkdir(parents=True, exist_ok=True)
                (each.directory / file.path).rename(bundle / file.path)
    write_manifest(bundle, replace(manifest, variants=tuple(_recorded(each) for each in kept)))

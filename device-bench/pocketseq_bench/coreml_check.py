"""What only a Mac can tell of a bundle's Core ML variants: ``python -m pocketseq_bench.coreml_check BUNDLE ROWS.jsonl -o FILE``.

Where a bundle is made there is no Core ML, so that its manifest calls these variants unchecked. This runs each of them, on each
of Core ML's compute units, beside an ONNX variant of the bundle, which was checked.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from pocketseq import PocketModel, Result
from pocketseq.bundle import Bundle, open_bundle
from pocketseq.errors import DataError, PocketSeqError, VariantNotFoundError
from pocketseq.examples import Example
from pocketseq.files import write_json
from pocketseq.manifest import Manifest, Variant
from pocketseq.metrics import evaluate_rows
from pocketseq.records import plain
from pocketseq.runtimes import UNSAID, Floats, open_runtime
from pocketseq.runtimes.coreml import ComputeUnits
from pocketseq.runtimes.macos import macos_version
from pocketseq.runtimes.opening import require_runtime
from pocketseq.tokenizer import TextTokenizer
from pocketseq_bench.environment import environment
from pocketseq_bench.instrument import first_rows
from pocketseq_bench.latency import Latency, time_calls

FORMAT: Final = 1
UNITS: Final[tuple[str, ...]] = get_args(ComputeUnits)
COMPARED: Final = 50
"""Rows whose log-probabilities are compared too."""
FP32_IDENTICAL: Final = 0.995
"""Share of answers that a variant at full precision must give token for token."""
TOLERANCE: Final = 0.01
"""Exact match that any other may lose; one row is always allowed."""


@dataclass(frozen=True, slots=True)
class Found:
    """One variant on one set of compute units."""

    compute_units: str
    """Where Core ML was allowed to run it."""
    agrees: bool
    """Whether it answers as well as the ONNX variant; see ``FP32_IDENTICAL`` and ``TOLERANCE``."""
    failure: str | None
    """Core ML's own words where it did not run; the measures are None then."""
    identical_generations: float | None = None
    """Share of rows with the very tokens of the ONNX variant."""
    exact_match: float | None = None
    """Against the truth."""
    max_abs_logit_difference: float | None = None
    """Largest difference of a log-probability from the ONNX variant's, along its answers."""
    open_ms: float | None = None
    """From the bundle to the first answer, compiling included where that had not been done."""
    latency: Latency | None = None
    """Of one answer end to end."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        latency = None if self.latency is None else self.latency.to_json()
        return {name: value for name, value in plain(self).items() if name != "latency"} | {"latency_ms": latency}


def check_coreml(source: str | Path, rows: Sequence[Example], *, warmup: int) -> dict[str, Any]:
    """Hold the Core ML variants of a bundle to an ONNX variant of it, on this Mac.

    Args:
        source: What ``PocketModel.load`` takes.
        rows: Labelled rows, at least one.
        warmup: Answers before the first that is timed.

    Returns:
        What was found, as JSON values; ``agrees`` says whether all is well.

    Raises:
        DataError: no rows.
        VariantNotFoundError: the bundle has no Core ML or no ONNX variant.
        RuntimeUnavailableError: this is no Mac, or coremltools is not installed.
    """
    if not rows:
        raise DataError("expected rows to check with, found none")
    with open_bundle(source) as bundle:
        manifest = bundle.manifest
        manifest.variant(runtime="coreml")
        checked = []
        for variant in (each for each in manifest.variants if each.runtime == "coreml"):
            require_runtime(variant)
            baseline = _baseline(manifest, variant)
            questions = _Questions(source, bundle, rows, baseline, _answers(source, baseline, rows), warmup)
            checked.append((questions, variant, [questions.ask(variant, units) for units in UNITS]))
    return {
        "format": FORMAT,
        "bundle": manifest.name,
        "version": manifest.version,
        "environment": environment(),
        "macos": ".".join(map(str, macos_version() or ())),
        "coremltools": installed("coremltools"),
        "rows": len(rows),
        "agrees": all(each.agrees for *_, found in checked for each in found),
        "variants": [
            {
                "runtime": variant.runtime,
                "precision": variant.precision,
                "hash": variant.hash,
                "size_bytes": variant.size_bytes,
                "baseline": {
                    "variant": questions.baseline.label,
                    "hash": questions.baseline.hash,
                    "exact_match": questions.exact_match(questions.answers),
                },
                "compute_units": [each.to_json() for each in found],
            }
            for questions, variant, found in checked
        ],
    }


def check_table(found: dict[str, Any]) -> str:
    """What ``check_coreml`` found, for people."""
    lines = [f"{'variant':<22} {'units':<12} {'identical':>9} {'exact':>7} {'max diff':>9} {'open s':>7} {'p50 ms':>7}  agrees"]
    for variant in found["variants"]:
        label = f"{variant['runtime']}/{variant['precision']}"
        for each in variant["compute_units"]:
            head = f"{label:<22} {each['compute_units']:<12}"
            if each["failure"] is not None:
                lines.append(f"{head} did not run: {each['failure']}")
                continue
            speed = f"{each['open_ms'] / 1000:>7.1f} {each['latency_ms']['p50']:>7.1f}"
            alike = f"{each['identical_generations']:>9.1%} {each['exact_match']:>7.1%} {each['max_abs_logit_difference']:>9.2g}"
            lines.append(f"{head} {alike} {speed}  {'yes' if each['agrees'] else 'NO'}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Questions:
    """What is asked of a variant, and what it is held to."""

    source: str | Path
    bundle: Bundle
    rows: Sequence[Example]
    baseline: Variant
    answers: Sequence[Result]
    """The baseline's."""
    warmup: int

    def ask(self, variant: Variant, units: str) -> Found:
        """Let a variant answer on some compute units."""
        try:
            started = time.perf_counter()
            with PocketModel.load(self.source, runtime="coreml", precision=variant.precision, compute_units=units) as model:
                model.generate(self.rows[0].fields)
                open_ms = 1000 * (time.perf_counter() - started)
                timed = time_calls(lambda row: model.generate(row.fields), self.rows, warmup=self.warmup)
            difference = self._difference(variant, units)
        except Exception as error:  # whatever Core ML raises on one set of units is a finding, not the end of the check
            return Found(compute_units=units, agrees=False, failure=f"{type(error).__name__}: {error}")
        pairs = zip(timed.answers, self.answers, strict=True)
        identical = sum(tuple(mine.tokens) == tuple(theirs.tokens) for mine, theirs in pairs) / len(self.rows)
        exact = self.exact_match(timed.answers)
        if variant.precision == self.baseline.precision == "fp32":
            agrees = identical >= FP32_IDENTICAL
        else:
            agrees = self.exact_match(self.answers) - exact <= max(TOLERANCE, 1 / len(self.rows)) + 1e-9
        return Found(
            compute_units=units,
            agrees=agrees,
            failure=None,
            identical_generations=identical,
            exact_match=exact,
            max_abs_logit_difference=difference,
            open_ms=round(open_ms, 3),
            latency=timed.latency,
        )

    def exact_match(self, answers: Sequence[Result]) -> float:
        """Share of answers that are the truth."""
        primary = self.bundle.manifest.template.primary
        return evaluate_rows(self.rows, [answer.text for answer in answers], primary=primary).exact_match

    def _difference(self, variant: Variant, units: str) -> float:
        """Largest difference of a log-probability along the baseline's answers."""
        manifest = self.bundle.manifest
        tokenizer = TextTokenizer.from_file(self.bundle.path(manifest.tokenizer))
        runtimes = open_runtime(self.bundle, variant, compute_units=units), open_runtime(self.bundle, self.baseline)
        largest = 0.0
        for row, answer in list(zip(self.rows, self.answers, strict=True))[:COMPARED]:
            ids = np.array([manifest.template.encode(tokenizer, row.fields).ids], dtype=np.int64)
            prompt = (manifest.geometry.start_id, *manifest.generation.forced_prefix)
            given = np.array([[*prompt, *answer.tokens[:-1]]], dtype=np.int64)
            mine, theirs = (
                runtime.step(given, runtime.encode(ids, np.ones_like(ids)), runtime.start(1)).logprobs[0, len(prompt) - 1 :]
                for runtime in runtimes
            )
            largest = max(largest, _apart(mine, theirs))
        return largest


def _apart(mine: Floats, theirs: Floats) -> float:
    """Largest difference of two log-probabilities; what neither would ever say is written with other numbers by each format."""
    said = ~((mine < UNSAID) & (theirs < UNSAID))
    largest = float(np.abs(mine[said] - theirs[said]).max(initial=0.0))
    if not largest < np.inf:
        raise DataError("expected log-probabilities, found some that are no numbers")
    return largest


def _baseline(manifest: Manifest, variant: Variant) -> Variant:
    """The ONNX variant of the same precision, or else the first."""
    precision = variant.precision.removesuffix("-stateless")
    try:
        return manifest.variant(runtime="onnx", precision=precision)
    except VariantNotFoundError:
        return manifest.variant(runtime="onnx")


def _answers(source: str | Path, variant: Variant, rows: Sequence[Example]) -> list[Result]:
    with PocketModel.load(source, runtime=variant.runtime, precision=variant.precision) as model:
        return [model.generate(row.fields) for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; the exit status is 0 where every variant agrees on all compute units."""
    parser = argparse.ArgumentParser(prog="python -m pocketseq_bench.coreml_check", description="check Core ML variants on a Mac")
    parser.add_argument("bundle", metavar="BUNDLE", help="a directory or .pocketseq file with Core ML and ONNX variants")
    parser.add_argument("rows", metavar="ROWS", type=Path, help="labelled rows, one JSON object a line")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write what was found as JSON, raw samples included")
    parser.add_argument("--limit", metavar="N", type=int, default=500, help="use the first N rows only (default: 500)")
    parser.add_argument("--warmup", metavar="N", type=int, default=10, help="answers that are not timed (default: 10)")
    args = parser.parse_args(arguments)
    try:
        found = check_coreml(args.bundle, first_rows(args.rows, args.limit, option="--limit"), warmup=args.warmup)
    except PocketSeqError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(check_table(found))
    if args.output is not None:
        write_json(args.output, found)
    return 0 if found["agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())

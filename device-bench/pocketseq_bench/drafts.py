"""What drafts bring: greedy answers with several tokens verified in one step, against the same answers token by token, in turns.

    python -m pocketseq_bench.drafts BUNDLE ROWS.jsonl [--precision P] [--rows N] [--rounds N] [--decide] [-o FILE]

The draft is the input's primary field. Whole answers are timed, text in and text out. ``--decide`` writes into the bundle's
manifest whether it drafts unless its caller says otherwise: where every answer was the same and drafts gained a tenth or more.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from pocketseq import PocketModel, Result, open_bundle, write_manifest
from pocketseq.errors import DataError, InputError, PocketSeqError
from pocketseq.examples import Example
from pocketseq.files import write_json
from pocketseq_bench.environment import environment
from pocketseq_bench.instrument import first_rows

FORMAT: Final = 1
ROUNDS: Final = 7
PAYS: Final = 1.1
"""Times as fast from which drafts are worth their second path."""
_CLOCKS: Final[Mapping[str, Callable[[], float]]] = {"wall_s": time.perf_counter, "cpu_s": time.thread_time}


def measure_drafts(model: PocketModel, rows: Sequence[Example], *, rounds: int = ROUNDS) -> dict[str, Any]:
    """Answer rows with and without drafts, in turns.

    Args:
        model: Answers with text; one with edits copies nothing and is refused.
        rows: Inputs with their true answers, at least one.
        rounds: Runs of each, at least 5 for figures that are published.

    Returns:
        JSON values: raw times, tokens a second by both clocks, their ratio, and how the answers compare.

    Raises:
        InputError: the bundle answers with edits, or not one round.
    """
    if rounds < 1:
        raise InputError(f"rounds: expected a whole number from 1, found {rounds}")
    answers = {name: _answer(model, rows, draft=name == "drafted") for name in ("plain", "drafted")}
    plain, drafted = answers.values()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in answers}
    for _ in range(rounds):
        for name, taken in runs.items():
            began = {clock: now() for clock, now in _CLOCKS.items()}
            _answer(model, rows, draft=name == "drafted")
            taken.append({clock: round(now() - began[clock], 6) for clock, now in _CLOCKS.items()})
    tokens = sum(len(one.tokens) for one in plain)
    pairs = list(zip(plain, drafted, strict=True))
    return {
        "rows": len(rows),
        "rounds": rounds,
        "tokens": tokens,
        "exact_match": round(sum(one.text == row.target for one, row in zip(plain, rows, strict=True)) / len(rows), 4),
        "same_answers": round(sum(one.tokens == other.tokens for one, other in pairs) / len(rows), 4),
        "max_logprob_difference": max(
            (
                abs(mine - its)
                for one, other in pairs
                if one.tokens == other.tokens
                for mine, its in zip(one.token_logprobs, other.token_logprobs, strict=True)
            ),
            default=0.0,
        ),
        "runs": runs,
        "tokens_per_s": {
            name: {clock: round(tokens / median(run[clock] for run in taken), 1) for clock in _CLOCKS}
            for name, taken in runs.items()
        },
        "drafted_over_plain": {
            clock: round(median(one[clock] / other[clock] for one, other in zip(runs["plain"], runs["drafted"], strict=True)), 3)
            for clock in _CLOCKS
        },
    }


def pays(found: Mapping[str, Any]) -> bool:
    """Whether drafts change no answer and are worth having, by processor time, which other programs disturb less."""
    return bool(found["same_answers"] == 1.0 and found["drafted_over_plain"]["cpu_s"] >= PAYS)


def _answer(model: PocketModel, rows: Sequence[Example], *, draft: bool) -> list[Result]:
    return [model.generate(row.fields, draft=draft) for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = ArgumentParser(prog="python -m pocketseq_bench.drafts", description="What drafts from the input bring.")
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a bundle that answers with text")
    parser.add_argument("inputs", metavar="ROWS.jsonl", type=Path, help="labelled rows that the model was not trained on")
    parser.add_argument("--precision", help="such as int8; the bundle's first if not given")
    parser.add_argument("--rows", metavar="N", type=int, default=60, help="use the first N rows (default: %(default)s)")
    parser.add_argument("--rounds", metavar="N", type=int, default=ROUNDS, help="runs of each (default: %(default)s)")
    parser.add_argument("--decide", action="store_true", help="write into the bundle directory's manifest whether it drafts")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the result as JSON")
    args = parser.parse_args(arguments)
    try:
        rows = first_rows(args.inputs, args.rows, option="--rows")
        if not rows:
            raise DataError(f"{args.inputs}: expected rows to measure on, found none")
        if args.decide and not args.bundle.is_dir():
            raise InputError(f"{args.bundle}: expected a bundle directory to write a decision into, found none; unpack it first")
        with PocketModel.load(args.bundle, precision=args.precision) as model:
            found = measure_drafts(model, rows, rounds=args.rounds)
            manifest, variant = model.manifest, model.variant
        if args.decide:
            write_manifest(args.bundle, replace(manifest, generation=replace(manifest.generation, draft=pays(found))))
            open_bundle(args.bundle).close()
    except PocketSeqError as error:
        print(error, file=sys.stderr)
        return 1
    document = {
        "format": FORMAT,
        "bundle": manifest.name,
        "variant": variant.label,
        "hash": variant.hash,
        "parameters": manifest.provenance.get("parameters"),
        "environment": environment(),
        "pays": pays(found),
        **found,
    }
    if args.output is not None:
        write_json(args.output, document)
    speed, ratio = found["tokens_per_s"], found["drafted_over_plain"]
    print(
        f"{manifest.name} {variant.label}: {speed['drafted']['wall_s']:.0f} tokens/s with drafts, {speed['plain']['wall_s']:.0f} "
        f"without: {ratio['wall_s']:.2f} times as fast by wall clock, {ratio['cpu_s']:.2f} by processor time, "
        f"{found['same_answers']:.0%} the same answers"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

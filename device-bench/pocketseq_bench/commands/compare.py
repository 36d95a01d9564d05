"""``pocketseq bench compare``: two benchmarks against each other, for people and for a CI."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from pocketseq.commands import Command

REGRESSED: Final = 1
"""Exit code where a condition was met."""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq bench compare``."""
    parser.add_argument("before", metavar="A.json", type=Path, help="what `pocketseq bench` wrote before")
    parser.add_argument("after", metavar="B.json", type=Path, help="and after")
    parser.add_argument(
        "--fail-if",
        metavar="CONDITION",
        action="append",
        default=[],
        help="such as 'p50>+10%%' or 'exact_match<-1%%'; exit code 1 if it is so and not by chance; may be repeated",
    )


def run(args: Namespace) -> int:
    """Print the changes, and tell by the exit code whether any of them must not be."""
    from pocketseq_bench.document import read_document
    from pocketseq_bench.regression import Condition, cautions, compare, lost
    from pocketseq_bench.report.comparison import comparison_table

    conditions = [Condition.parse(text) for text in args.fail_if]
    before, after = read_document(args.before), read_document(args.after)
    shown = dict.fromkeys(["p50", "p95", "size", "memory", "exact_match", *(condition.metric for condition in conditions)])
    changes = compare(before, after, list(shown))
    there = {row.label for row in after.rows if row.stages_ms}
    unknown = [
        (condition, change)
        for condition in conditions
        for change in changes
        if change.metric == condition.metric and change.ratio is None and change.label in there
    ]
    print(comparison_table(changes))
    for line in cautions(before, after):
        print(f"careful: {line}")
    for condition, change in unknown:
        why = "was not measured both times" if None in (change.before, change.after) else "cannot be compared"
        print(f"careful: {change.label}: {change.metric} {why}; nobody can tell whether {condition}")
    failures = [f"{change.label}: {condition}" for condition in conditions for change in changes if change.fails(condition)]
    failures += [f"lost {line}" for line in lost(before, after)] if conditions else []
    for line in failures:
        print(f"failed: {line}")
    return REGRESSED if failures else 0


COMMAND: Final = Command(
    name="bench compare", summary="what became slower, larger or worse between two results", configure=configure, run=run
)

"""What instruments share: checks of what they are given, and a command line that measures one bundle on inputs of its task."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pocketseq import open_bundle
from pocketseq.errors import DataError, InputError, PocketSeqError
from pocketseq.examples import Example, read_examples
from pocketseq.files import write_json
from pocketseq_bench.measuring.inputs import BenchInputs, default_inputs, read_inputs


class Measure(Protocol):
    """What an instrument does."""

    def __call__(self, source: str, inputs: BenchInputs, /, *, precision: str | None, rounds: int) -> dict[str, Any]:
        """Measure a bundle on inputs, so many times; JSON values."""


def check_enough(inputs: BenchInputs, *, warmup: int, rounds: int) -> None:
    """See beforehand that something is left to measure.

    Args:
        inputs: What is asked.
        warmup: How many of them, the first, are not counted.
        rounds: How often each of the others is.

    Raises:
        DataError: no inputs but those of the warm-up.
        InputError: not one round.
    """
    if len(inputs.rows) <= warmup:
        raise DataError(f"{inputs.origin}: expected more than the {warmup} rows of the warm-up, found {len(inputs.rows)}")
    if rounds < 1:
        raise InputError(f"rounds: expected a whole number from 1, found {rounds}")


def first_rows(path: Path, count: int, *, option: str) -> list[Example]:
    """Read the first rows of a file.

    Args:
        path: JSONL of examples.
        count: How many, where there are as many.
        option: What they were asked for by.

    Raises:
        DataError: a row that is no example.
        InputError: not one is asked for.
    """
    if count < 1:
        raise InputError(f"{option}: expected a whole number from 1, found {count}")
    return list(islice(read_examples(path), count))


def measure_bundle(
    arguments: Sequence[str] | None,
    measure: Measure,
    lines: Callable[[Mapping[str, Any]], Iterable[str]],
    *,
    name: str,
    summary: str,
    rounds: int,
) -> int:
    """Read the arguments, measure, write and print.

    Args:
        arguments: Words of the command line; those of the process if None.
        measure: The instrument.
        lines: What is printed of what it found.
        name: Of the module that is run.
        summary: What it tells.
        rounds: If not given.

    Returns:
        The exit status.
    """
    parser = ArgumentParser(prog=f"python -m {name}", description=summary)
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", default="python-fix", help="default: %(default)s")
    parser.add_argument("--inputs", metavar="FILE", type=Path, help="rows; those of the bundle's task if not given")
    parser.add_argument("--precision", help="such as int8; the bundle's first if not given")
    parser.add_argument("--rounds", metavar="N", type=int, default=rounds, help="default: %(default)s")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the result as JSON")
    args = parser.parse_args(arguments)
    try:
        if args.inputs is None:
            with open_bundle(args.bundle) as bundle:
                inputs = default_inputs(bundle.manifest.task)
        else:
            inputs = read_inputs(args.inputs)
        found = measure(args.bundle, inputs, precision=args.precision, rounds=args.rounds)
    except PocketSeqError as error:
        print(error, file=sys.stderr)
        return 1
    if args.output is not None:
        write_json(args.output, found)
    for line in lines(found):
        print(line)
    return 0

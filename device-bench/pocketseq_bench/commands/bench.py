"""``pocketseq bench``: every variant of a bundle on this machine."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Final

from pocketseq.commands import Command
from pocketseq.errors import InputError


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq bench``."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a directory or .pocketseq file, or the name of a packaged bundle")
    configure_measuring(parser)
    parser.epilog = "See also: pocketseq bench compare, bench kit, bench merge, bench replay."


def configure_measuring(parser: ArgumentParser) -> None:
    """Declare what a kit's runner takes too."""
    parser.add_argument("--runtimes", metavar="NAME[,…]", type=_names, default=(), help="such as onnx,tflite (default: all)")
    parser.add_argument("--precisions", metavar="NAME[,…]", type=_names, default=(), help="such as fp32,int8 (default: all)")
    parser.add_argument(
        "--threads", metavar="N[,…]", type=_numbers, default=(1,), help="threads for one call, each measured (default: 1)"
    )
    parser.add_argument(
        "--inputs", metavar="FILE", type=Path, help="JSONL with fields, and target where known (default: the package's, by task)"
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="for bench.json, .md and .html (default: bench/BUNDLE)")
    parser.add_argument("--quick", action="store_true", help="a first look within a minute instead of ten")
    parser.add_argument(
        "--sustained",
        metavar="MINUTES",
        type=float,
        default=0.0,
        help="answer without a pause, to see whether the device slows down",
    )


def run(args: Namespace) -> int:
    """Measure, and write the reports."""
    name = Path(args.bundle).name.removesuffix(".pocketseq")
    return measure(args, str(args.bundle), inputs=args.inputs, default=Path("bench") / name)


def measure(args: Namespace, source: str, *, inputs: Path | None, default: Path) -> int:
    """Measure a bundle as the arguments say.

    Args:
        args: As ``configure_measuring`` declares them.
        source: What ``PocketModel.load`` takes.
        inputs: What to ask; None takes the package's own inputs.
        default: Where the results go where the arguments name no place.
    """
    from pocketseq_bench.measuring import QUICK, BenchSettings, read_inputs, run_bench
    from pocketseq_bench.report import bench_table
    from pocketseq_bench.report.files import write_bench_reports

    settings = replace(
        QUICK if args.quick else BenchSettings(),
        runtimes=args.runtimes,
        precisions=args.precisions,
        threads=args.threads,
        sustained_minutes=args.sustained,
    )
    directory = args.output or default
    try:
        document = run_bench(source, inputs=read_inputs(inputs) if inputs else None, settings=settings, directory=directory)
    except KeyboardInterrupt:
        print(f"what was measured is kept in {directory}; the same command goes on from there", file=sys.stderr)
        raise
    write_bench_reports(directory, [document])
    print(bench_table(document))
    print(f"\n{directory / 'bench.html'} shows all of it, {directory / 'bench.json'} is for programs.")
    return 0 if any(row.stages_ms for row in document.rows) else 1


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--threads: expected whole numbers such as 1,2, found {text!r}") from None


COMMAND: Final = Command(
    name="bench", summary="measure every variant of a bundle: latency, start, memory, size, quality", configure=configure, run=run
)

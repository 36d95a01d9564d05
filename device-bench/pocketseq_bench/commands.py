"""``pocketseq demo`` and ``pocketseq bench``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from itertools import islice
from pathlib import Path
from typing import Final

from pocketseq.commands import Command
from pocketseq.examples import read_examples
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe, run_recipe


def _configure_demo(parser: ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="run directory (default: runs/<name of the recipe>)")
    parser.add_argument("--quick", action="store_true", help="a first look in two minutes, with a student that has learnt little")


def _demo(args: Namespace) -> int:
    from pocketseq_bench.report import read_findings, terminal_report

    recipe = Recipe.read("python-fix-quick" if args.quick else "python-fix-demo")
    directory = args.output or Path("runs") / recipe.name
    run_recipe(recipe, directory)
    print(f"\n{terminal_report(read_findings(directory, recipe=recipe.name, task=recipe.task))}")
    print(f"\n{directory / 'report.html'} shows all of it, {directory / 'report.json'} is for programs.")
    return 0


def _configure_bench(parser: ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="a directory or .pocketseq file, or the name of a packaged bundle")
    parser.add_argument("rows", metavar="ROWS", type=Path, help="labelled rows, one JSON object a line")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the measurement as JSON, raw samples included")
    parser.add_argument("--limit", metavar="N", type=int, help="use the first N rows only")
    parser.add_argument("--warmup", metavar="N", type=int, default=20, help="suggestions that do not count (default: 20)")


def _bench(args: Namespace) -> int:
    from pocketseq_bench.report import bench_table
    from pocketseq_bench.variants import measure_bundle

    measured = measure_bundle(args.bundle, list(islice(read_examples(args.rows), args.limit)), warmup=args.warmup)
    print(bench_table(measured))
    if args.output is not None:
        write_json(args.output, measured)
    return 0


DEMO: Final = Command(
    name="demo", summary="the whole way on this machine: distil, export, calibrate, suggest", configure=_configure_demo, run=_demo
)
BENCH: Final = Command(
    name="bench", summary="measure every variant of a bundle: latency, size, quality", configure=_configure_bench, run=_bench
)

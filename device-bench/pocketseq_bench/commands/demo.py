"""``pocketseq demo``: the whole way on this machine."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from pocketseq.commands import Command
from pocketseq.pipeline import Recipe, run_recipe


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq demo``."""
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="run directory (default: runs/<name of the recipe>)")
    parser.add_argument("--quick", action="store_true", help="a first look in two minutes, with a student that has learnt little")


def run(args: Namespace) -> int:
    """Run the recipe, then show the report."""
    from pocketseq_bench.report import read_findings, terminal_report
    from pocketseq_bench.stages import judged_by

    recipe = Recipe.read("python-fix-quick" if args.quick else "python-fix-demo")
    directory = args.output or Path("runs") / recipe.name
    minutes = "two" if args.quick else "ten"
    print(
        f"{recipe.description} It takes about {minutes} minutes on two cores; everything goes to {directory}, "
        "and after Ctrl-C the same command goes on.",
        file=sys.stderr,
        flush=True,
    )
    run_recipe(recipe, directory)
    print(f"\n{terminal_report(read_findings(directory, recipe=recipe.name, task=recipe.task, judged_by=judged_by(recipe)))}")
    print(f"\n{directory / 'report.html'} shows all of it, {directory / 'report.json'} is for programs.")
    return 0


COMMAND: Final = Command(
    name="demo", summary="the whole way on this machine: distil, export, calibrate, suggest", configure=configure, run=run
)

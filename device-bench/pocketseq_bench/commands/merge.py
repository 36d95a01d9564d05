"""``pocketseq bench merge``: benchmarks of several devices in one table."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from pocketseq.commands import Command


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq bench merge``."""
    parser.add_argument("results", metavar="BENCH.json", nargs="+", type=Path, help="what `pocketseq bench` or a kit wrote")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="for bench.md and bench.html")


def run(args: Namespace) -> int:
    """Read them all, write the reports and print the table."""
    from pocketseq_bench.document import read_document
    from pocketseq_bench.report.bench_table import devices_table
    from pocketseq_bench.report.files import write_bench_reports

    documents = [read_document(path) for path in args.results]
    write_bench_reports(args.output, documents)
    print(devices_table(documents))
    print(f"\n{args.output / 'bench.html'} shows all of it.")
    return 0


COMMAND: Final = Command(
    name="bench merge", summary="join the results of several devices in one report", configure=configure, run=run
)

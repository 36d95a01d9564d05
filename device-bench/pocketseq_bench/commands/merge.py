"""``pocketseq bench merge``: benchmarks of several devices in one table."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Final

from pocketseq.commands import Command


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq bench merge``."""
    parser.add_argument("results", metavar="BENCH.json", nargs="+", type=Path, help="what `pocketseq bench` or a kit wrote")
    parser.add_argument(
        "--rivals",
        metavar="FILE",
        type=Path,
        help="what `python -m pocketseq_bench.rivals` wrote on the first device, to show beside",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="for bench.md, bench.html and the JSON they are made of"
    )


def run(args: Namespace) -> int:
    """Read them all, write the reports and print the table."""
    from pocketseq_bench.document import read_document, write_document
    from pocketseq_bench.report.bench_table import devices_table
    from pocketseq_bench.report.files import write_bench_reports
    from pocketseq_bench.report.rivals import check_alike, read_rivals

    documents = [read_document(path) for path in args.results]
    if args.rivals is not None:
        rivals = read_rivals(args.rivals)
        check_alike(rivals, documents[0], where=str(args.rivals))
        documents[0] = replace(documents[0], rivals=rivals)
    for number, document in enumerate(documents):
        name = "bench.json" if len(documents) == 1 else f"bench-{number + 1}.json"
        write_document(args.output / name, document)
    write_bench_reports(args.output, documents)
    print(devices_table(documents))
    print(f"\n{args.output / 'bench.html'} shows all of it.")
    return 0


COMMAND: Final = Command(
    name="bench merge", summary="join the results of several devices in one report", configure=configure, run=run
)

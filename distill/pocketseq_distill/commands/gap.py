"""``pocketseq gap``: where a run lost quality between teacher and student, and what to try next."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from pocketseq.commands import Command, require_one_process, whole

_MEASURED = """\
It answers held-out rows with teacher and student, and measures what each cause costs, in points: answers that the student's
vocabulary cannot spell, labels that differ from references, training that ended too soon, a student too small, and rounding.
For these it trains copies of both for a few updates, which takes minutes; the run's own models stay as they are. What it found
is printed and written to RUN/gap.json, and the run's next report shows it.

examples:
  pocketseq gap runs/python-fix-demo
  pocketseq gap runs/python-fix-demo --rows 2000      # narrower intervals, in more time
"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq gap``."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = _MEASURED
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory after its training; RUN/gap.json is written")
    parser.add_argument("--rows", metavar="N", type=whole, default=400, help="held-out rows to measure on (default: 400)")
    parser.add_argument("--updates", metavar="N", type=whole, default=60, help="further updates to compare (default: 60)")
    parser.add_argument("--subset", metavar="N", type=whole, default=64, help="rows to learn by heart (default: 64)")
    parser.add_argument("--subset-updates", metavar="N", type=whole, default=120, help="updates to learn them in (default: 120)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> int:
    """Measure, write and print."""
    from pocketseq.files import write_json
    from pocketseq_distill.attribution import GapSettings, attribute_gap
    from pocketseq_distill.attribution.findings import table

    require_one_process("gap")
    settings = GapSettings(rows=args.rows, updates=args.updates, subset=args.subset, subset_updates=args.subset_updates)
    gap = attribute_gap(args.run, settings)
    write_json(args.run / "gap.json", gap.to_json())
    print(json.dumps(gap.to_json(), ensure_ascii=False, indent=2) if args.json else "\n".join(table(gap)))
    return 0


COMMAND = Command(name="gap", summary="where a run lost quality between teacher and student", configure=configure, run=run)

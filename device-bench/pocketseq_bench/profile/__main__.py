"""``python -m pocketseq_bench.profile BUNDLE ROWS -o FILE``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from pocketseq.errors import PocketSeqError
from pocketseq.files import write_json
from pocketseq_bench.instrument import first_rows
from pocketseq_bench.profile.findings import ROUNDS, profile
from pocketseq_bench.profile.markdown import profile_markdown


def main() -> int:
    """Profile a bundle and print what was found."""
    parser = ArgumentParser(prog="python -m pocketseq_bench.profile", description="Where the time of a suggestion goes.")
    parser.add_argument("bundle", metavar="BUNDLE", help="a directory or .pocketseq file, or the name of a packaged bundle")
    parser.add_argument("rows", metavar="ROWS", type=Path, help="rows with fields, one JSON object a line")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write what was found as JSON")
    parser.add_argument("--precision", default="int8", help="of the ONNX variant (default: %(default)s)")
    parser.add_argument(
        "--limit", metavar="N", type=int, default=40, help="rows that are read, the first to warm up (default: %(default)s)"
    )
    parser.add_argument("--rounds", metavar="N", type=int, default=ROUNDS, help="answers to each (default: %(default)s)")
    args = parser.parse_args()
    try:
        examples = first_rows(args.rows, args.limit, option="--limit")
        found = profile(args.bundle, examples, precision=args.precision, rounds=args.rounds)
    except PocketSeqError as error:
        print(error, file=sys.stderr)
        return 1
    if args.output:
        write_json(args.output, found)
    print(profile_markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

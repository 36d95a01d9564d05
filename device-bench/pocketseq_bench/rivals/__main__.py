"""``python -m pocketseq_bench.rivals CHECKPOINT BUNDLE ROWS -o FILE``."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from pocketseq.errors import PocketSeqError
from pocketseq.examples import read_examples
from pocketseq.files import write_json
from pocketseq_bench.rivals.comparison import ROUNDS, compare
from pocketseq_bench.rivals.table import write_table


def main() -> int:
    """Run the comparison and print it."""
    parser = ArgumentParser(prog="python -m pocketseq_bench.rivals", description="The SDK beside ctranslate2 and transformers.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="the checkpoint that the bundle was exported from")
    parser.add_argument("bundle", metavar="BUNDLE", help="a directory or .pocketseq file, or the name of a packaged bundle")
    parser.add_argument("rows", metavar="ROWS", type=Path, help="labelled rows, one JSON object a line")
    parser.add_argument(
        "--checkpoint",
        metavar="OTHER",
        dest="others",
        type=Path,
        action="append",
        default=[],
        help="another checkpoint to export and to time on the same tasks; may be given several times",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write the comparison as JSON, raw times included")
    parser.add_argument("--rounds", metavar="N", type=int, default=ROUNDS, help="runs of each contender (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="threads of each contender (default: %(default)s)")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as directory:
            found = compare(
                args.checkpoint,
                args.bundle,
                list(read_examples(args.rows)),
                directory=Path(directory),
                threads=args.threads,
                rounds=args.rounds,
                others=args.others,
                progress=lambda text: print(text, file=sys.stderr, flush=True),
            )
    except PocketSeqError as error:
        print(error, file=sys.stderr)
        return 1
    if args.output:
        write_json(args.output, found)
    print(write_table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``pocketseq pack``: the part of a bundle that a device needs, ready to be carried there."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pocketseq.commands import Command


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq pack``."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a path, a packaged name such as python-fix, or hf://org/name")
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help="a .pocketseq file, or a directory that is not there yet"
    )
    parser.add_argument(
        "--variant", metavar="LABEL", action="append", default=[], help="such as onnx/int8; may be repeated (default: all)"
    )


def run(args: Namespace) -> int:
    """Pack and say what was written."""
    from pocketseq.packing import pack_variants

    manifest = pack_variants(args.bundle, args.output, labels=args.variant)
    print(f"{args.output}: {manifest.name} with {', '.join(variant.label for variant in manifest.variants)}")
    return 0


COMMAND = Command(name="pack", summary="write some variants of a bundle as one file or directory", configure=configure, run=run)

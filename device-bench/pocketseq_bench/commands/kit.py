"""``pocketseq bench kit``: bundle, inputs and runner in one file, to carry to a device and bring one JSON back."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from pocketseq.commands import Command


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq bench kit``."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a directory or .pocketseq file, or the name of a packaged bundle")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the kit (default: BUNDLE-bench.pyz)")
    parser.add_argument(
        "--inputs", metavar="FILE", type=Path, help="JSONL with fields, and target where known (default: the package's, by task)"
    )


def run(args: Namespace) -> int:
    """Write the kit and say how it is used."""
    from pocketseq_bench.kit import write_kit
    from pocketseq_bench.measuring import read_inputs

    output = args.output or Path(f"{Path(args.bundle).name.removesuffix('.pocketseq')}-bench.pyz")
    card = write_kit(args.bundle, output, inputs=read_inputs(args.inputs) if args.inputs else None)
    print(f"{output}: {card.name} with its inputs, {output.stat().st_size / 1e6:.1f} MB")
    print(f"on the device, where pocketseq is installed:  python {output.name}   (--help tells more)")
    return 0


COMMAND: Final = Command(
    name="bench kit", summary="pack bundle, inputs and runner in one file for another device", configure=configure, run=run
)

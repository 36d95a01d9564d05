"""``pocketseq calibrate``: a threshold of confidence with a promise, written into a bundle's manifest."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketseq.commands import Command
from pocketseq.errors import BundleNotFoundError, DataError

if TYPE_CHECKING:
    from pocketseq.manifest import Calibration


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq calibrate``."""
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="directory of the bundle; its manifest is rewritten")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROWS.jsonl", help="labelled rows that the model was not trained on"
    )
    parser.add_argument("--risk", type=float, default=0.1, help="largest share of wrong answers among those served (%(default)s)")
    parser.add_argument("--delta", type=float, default=0.05, help="probability that the promise does not hold (%(default)s)")
    parser.add_argument("--runtime", help="such as onnx; the bundle's first if not given")
    parser.add_argument("--precision", help="such as int8; the bundle's first if not given")
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON")


def run(args: Namespace) -> int:
    """Calibrate one variant on the rows."""
    from pocketseq.bundle import write_manifest
    from pocketseq.calibration import calibrate
    from pocketseq.examples import read_examples
    from pocketseq.model import PocketModel
    from pocketseq.pipeline.progress import Progress
    from pocketseq.records import plain

    if not args.bundle.is_dir():
        raise BundleNotFoundError(f"{args.bundle}: expected a bundle directory, found none; unzip a .pocketseq file into one first")
    if not args.data.is_file():
        raise DataError(f"{args.data}: expected a file of rows, found none; give the path of a JSONL file")
    rows = list(read_examples(args.data))
    with PocketModel.load(args.bundle, runtime=args.runtime, precision=args.precision) as model:
        progress = Progress(f"calibrate {model.variant.label}", len(rows))
        calibration = calibrate(model, rows, risk=args.risk, delta=args.delta, progress=progress)
        write_manifest(args.bundle, model.manifest.replacing(replace(model.variant, calibration=calibration)))
    print(json.dumps(plain(calibration), indent=2) if args.json else _sentence(calibration))
    return 0


def _sentence(calibration: Calibration) -> str:
    promise = f"at most {calibration.risk:.0%} wrong with probability {1 - calibration.delta:.0%}"
    area = "undefined" if calibration.auroc is None else f"{calibration.auroc:.3f}"
    if not calibration.feasible:
        return (
            f"no threshold is shown to keep {promise} on {calibration.n} rows (scorer {calibration.scorer}, AUROC {area}): "
            "nothing will be served without the cloud; allow a larger risk, or give more rows or a better model"
        )
    return (
        f"confidence ({calibration.scorer}) from {calibration.threshold:.4f}: {promise}; it serves {calibration.coverage:.1%} of "
        f"{calibration.n} rows, {calibration.accuracy:.1%} of them right (AUROC {area})"
    )


COMMAND: Final = Command(
    name="calibrate", summary="find the confidence from which answers can be served locally", configure=configure, run=run
)

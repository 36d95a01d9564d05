"""``pocketseq calibrate``: a scorer and a threshold with a promise, written into a bundle's manifest."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketseq.commands import Command
from pocketseq.errors import BundleNotFoundError, DataError, InfeasibleRiskError

if TYPE_CHECKING:
    from pocketseq.calibration import Calibrated, Promise
    from pocketseq.examples import Example
    from pocketseq.model import PocketModel


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq calibrate``."""
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="directory of the bundle; its manifest is rewritten")
    parser.add_argument("--data", type=Path, required=True, metavar="ROWS.jsonl", help="rows that the model was not trained on")
    parser.add_argument("--risk", type=float, default=0.1, help="largest share of wrong answers among those served (%(default)s)")
    parser.add_argument("--delta", type=float, default=0.05, help="probability that the promise does not hold (%(default)s)")
    parser.add_argument(
        "--loss",
        default="exact",
        help="what counts as wrong: exact (not the target), teacher (not the teacher's answer; no labels needed), "
        "edit_similarity<0.9 or chrf<0.6 (below a bound), edit_similarity or chrf (by degrees) (%(default)s)",
    )
    parser.add_argument(
        "--guarantee",
        choices=("binomial", "hoeffding-bentkus", "conformal"),
        help="by which test; the one that fits the loss if not given",
    )
    parser.add_argument(
        "--teacher-answers",
        type=Path,
        metavar="FILE",
        help="what 'pocketseq label' wrote for these rows: the truth with --loss teacher, otherwise what the cloud would answer: "
        "the scorer is then chosen by what handing over to it gains",
    )
    parser.add_argument(
        "--seen",
        type=Path,
        metavar="ROWS.jsonl",
        help="rows that the model was trained on: they help to fit what is learnt, where it foresees the others better with them",
    )
    parser.add_argument("--seed", type=int, default=0, help="divides the rows into those that fit, choose and test (%(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write what was found as one page")
    parser.add_argument("--cloud-ms", type=float, metavar="MS", help="what a cloud answer takes, for the report")
    parser.add_argument("--cloud-price", type=float, metavar="PRICE", help="what 1,000 cloud answers cost, for the report")
    parser.add_argument("--runtime", help="such as onnx; the bundle's first if not given")
    parser.add_argument("--precision", help="such as int8; the bundle's first if not given")
    parser.add_argument("--json", action="store_true", help="print the calibration as JSON")


def run(args: Namespace) -> int:
    """Calibrate one variant on the rows."""
    from pocketseq.bundle import write_manifest
    from pocketseq.calibration import Loss, Promise, calibrate, can_fit
    from pocketseq.model import PocketModel
    from pocketseq.pipeline.progress import Progress
    from pocketseq.records import plain

    if not args.bundle.is_dir():
        raise BundleNotFoundError(
            f"{args.bundle}: expected a bundle directory, found none; "
            f"`pocketseq pack {args.bundle} -o DIRECTORY` makes one of a bundle that is packed or named"
        )
    for file in filter(None, (args.data, args.seen)):
        if not file.is_file():
            raise DataError(f"{file}: expected a file of rows, found none; give the path of a JSONL file")
    promise = Promise(risk=args.risk, delta=args.delta, loss=Loss(args.loss), guarantee=args.guarantee)
    known = _known(args, promise)
    if not can_fit():
        print('note: no learned scorer and no gate without scikit-learn: pip install "pocketseq[calibrate]"', file=sys.stderr)
    with PocketModel.load(args.bundle, runtime=args.runtime, precision=args.precision) as model:
        progress = Progress(f"calibrate {model.variant.label}", len(known.rows) + len(known.seen))
        try:
            found = calibrate(model, known.rows, promise, cloud=known.cloud, seen=known.seen, seed=args.seed, progress=progress)
        except InfeasibleRiskError as refused:
            _write_report(args, model, refused.calibrated)
            raise
        write_manifest(args.bundle, model.manifest.replacing(replace(model.variant, calibration=found.calibration)))
        _write_report(args, model, found)
    print(json.dumps(plain(found.calibration), indent=2) if args.json else _sentences(found))
    return 0


@dataclass(frozen=True, slots=True)
class _Known:
    """What a calibration is made of."""

    rows: Sequence[Example]
    """With their truth."""
    seen: Sequence[Example]
    """Rows that the model learnt from, with theirs."""
    cloud: Mapping[str, str] | None
    """What the cloud answers to each, by its id; None where that is not known."""


def _known(args: Namespace, promise: Promise) -> _Known:
    from pocketseq.calibration import read_answers
    from pocketseq.examples import read_examples

    by_teacher = promise.loss.name == "teacher"
    rows = list(read_examples(args.data, labelled=not by_teacher))
    seen = [] if args.seen is None else list(read_examples(args.seen, labelled=not by_teacher))
    if args.teacher_answers is None:
        if by_teacher:
            raise DataError(
                "expected --teacher-answers with --loss teacher, found none; make them with: pocketseq label TEACHER ROWS"
            )
        return _Known(rows, seen, None)
    answers = read_answers(args.teacher_answers, [*rows, *seen])
    rows, seen = ([row for row in part if row.id in answers] for part in (rows, seen))
    if by_teacher:
        rows, seen = ([replace(row, target=answers[row.id]) for row in part] for part in (rows, seen))
        return _Known(rows, seen, None)
    return _Known(rows, seen, answers)


def _write_report(args: Namespace, model: PocketModel, found: Calibrated) -> None:
    if args.report is None:
        return
    from pocketseq.calibration.report import calibration_page
    from pocketseq.files import writing

    title = f"{model.manifest.name} {model.variant.label}"
    with writing(args.report) as file:
        file.write(calibration_page(found, title=title, cloud_ms=args.cloud_ms, cloud_price=args.cloud_price, seed=args.seed))


def _sentences(found: Calibrated) -> str:
    calibration = found.calibration
    area = "undefined" if calibration.auroc is None else f"{calibration.auroc:.3f}"
    sentences = [
        f"base risk {found.base_risk:.1%}: even a perfect confidence could serve no more than {found.largest_coverage:.1%}",
        f"confidence ({calibration.scorer}) from {calibration.threshold:.4f}: {calibration.promise}",
        f"it serves {calibration.coverage:.1%} of {calibration.n} rows, {calibration.accuracy:.1%} of them right (AUROC {area})",
    ]
    return "\n".join([*sentences, *filter(None, [found.price()])])


COMMAND: Final = Command(
    name="calibrate", summary="find the confidence from which answers can be served locally", configure=configure, run=run
)

"""How much a calibration's choice of scorer gains, and whether its promise holds, on a bundle's own answers.

    python -m pocketseq_bench.deferral BUNDLE ROWS.jsonl [--teacher-answers FILE] [--rows N] [-o device-bench/results/deferral.json]

Everything is measured on the rows that tested: they fitted nothing and chose no scorer. A bundle of the same name in the file is
replaced, the others stay.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketseq import PocketModel
from pocketseq.calibration import Calibrated, Judged, Promise, calibrate_answers, judge, read_answers
from pocketseq.calibration.calibrating import confidences_of, losses_of
from pocketseq.calibration.guarantee import Rows, candidates, choose_threshold
from pocketseq.calibration.measures import deferral_area, interval, resamplings
from pocketseq.calibration.report import measure
from pocketseq.confidence import Scorer
from pocketseq.examples import read_examples
from pocketseq.files import digest, write_json
from pocketseq.pipeline.progress import Progress
from pocketseq.records import plain

FORMAT: Final = 1
RISKS: Final = (0.05, 0.1, 0.2)
BASELINE: Final = "chow_average"
RESAMPLINGS: Final = 1000
CHOOSING: Final = 500
TESTING: Final = 800
"""Rows of one resampled calibration: those that give the candidates, and those that test them."""


def deferral(answers: Sequence[Judged], *, variant: str, data: str, seed: int = 0) -> dict[str, Any]:
    """Calibrate on answers whose loss is known, and measure what came of it, as JSON values.

    Args:
        answers: What ``judge`` gave.
        variant: ``Variant.hash`` of what answered.
        data: Fingerprint of the rows.
        seed: Seed of the division of the rows and of the resamplings.
    """
    found = calibrate_answers(answers, Promise(), variant=variant, data=data, seed=seed)
    chosen = found.calibration.scorer
    weights = resamplings(len(found.tested), seed=seed)
    return {
        "rows": {"chose": len(found.chosen), "tested": len(found.tested)},
        "base_risk": found.base_risk,
        "cloud_risk": float(np.mean([answer.cloud_loss for answer in found.tested])),
        "chosen": chosen,
        f"gain_over_{BASELINE}": {name: _advantage(found, name, weights) for name in found.scorers if name != BASELINE},
        "scorers": {name: _measures(found, name, weights) for name in found.scorers},
        "promise": [kept(found.tested, found.scorers[chosen], risk=risk, seed=seed) for risk in RISKS],
    }


def kept(population: Sequence[Judged], scorer: Scorer, *, risk: float, delta: float = 0.05, seed: int = 0) -> dict[str, Any]:
    """How often a calibration on rows drawn from a population keeps its promise on the whole of it.

    Args:
        population: Answers whose loss is known; they are the truth.
        scorer: Fixed before; it was fitted and chosen on other rows.
        risk: Largest mean loss among those served.
        delta: Probability that the promise does not hold.
        seed: Seed of the draws.
    """
    confidences, losses = confidences_of(population, scorer), losses_of(population)
    whole = Rows.of(confidences, losses)
    rng = np.random.default_rng(seed)
    count = broken = feasible = served = 0
    for _ in range(RESAMPLINGS):
        drawn = rng.integers(0, len(population), CHOOSING + TESTING)
        choosing, testing = (Rows.of(confidences[part], losses[part]) for part in (drawn[:CHOOSING], drawn[CHOOSING:]))
        threshold = choose_threshold(testing, candidates=candidates(choosing, risk=risk), risk=risk, delta=delta)
        if threshold is not None:
            count = whole.served(threshold)
            feasible, served = feasible + 1, served + count
            broken += whole.lost[count] > risk * count
    return {
        "risk": risk,
        "delta": delta,
        "resamplings": RESAMPLINGS,
        "rows": CHOOSING + TESTING,
        "kept": 1 - broken / RESAMPLINGS,
        "served_something": feasible / RESAMPLINGS,
        "mean_coverage": served / RESAMPLINGS / len(population),
    }


def _measures(found: Calibrated, name: str, weights: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    one = measure(found, name, weights)
    return {
        "area_where_chosen": found.areas[name],
        **{
            key: None if value is None else plain(value)
            for key, value in (("area", one.gain), ("aurc", one.aurc), ("auroc", one.auroc))
        },
        "excess_aurc": one.excess_aurc,
        "ece": one.reliability.ece,
        "brier": one.brier,
    }


def _advantage(found: Calibrated, name: str, weights: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    """Area over chance relative to the baseline's, less 1; both on the same resamplings."""
    gains = np.array([answer.loss - answer.cloud_loss for answer in found.tested])
    ours, theirs = (confidences_of(found.tested, found.scorers[one]) for one in (name, BASELINE))

    def advantage_of(counts: np.ndarray[Any, np.dtype[np.float64]] | None) -> np.ndarray[Any, np.dtype[np.float64]]:
        better, base = (np.asarray(deferral_area(one, gains, counts)) for one in (ours, theirs))
        # Where the baseline gains nothing there is nothing to be relative to.
        return np.divide(better, base, out=np.ones_like(better), where=base > 0) - 1

    advantage = interval(advantage_of, weights)
    found_values: dict[str, float] = plain(advantage)
    return found_values


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one bundle and put it into the result file."""
    parser = ArgumentParser(prog="python -m pocketseq_bench.deferral", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("rows", metavar="ROWS.jsonl", type=Path, help="labelled rows that the model was not trained on")
    parser.add_argument("--teacher-answers", metavar="FILE", type=Path, help="the cloud; always right if not given")
    parser.add_argument("--limit", metavar="N", type=int, help="use the first N rows only")
    parser.add_argument("--precision", help="such as int8; the bundle's first if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, default=Path("device-bench/results/deferral.json"))
    args = parser.parse_args(arguments)
    rows = list(islice(read_examples(args.rows), args.limit))
    cloud = None if args.teacher_answers is None else read_answers(args.teacher_answers, rows)
    rows = rows if cloud is None else [row for row in rows if row.id in cloud]
    with PocketModel.load(args.bundle, precision=args.precision) as model:
        answers = judge(model, rows, cloud=cloud, progress=Progress(f"deferral {model.variant.label}", len(rows)))
        name, provenance, variant = model.manifest.name, model.manifest.provenance, model.variant
    data = digest(sorted([row.id, row.target] for row in rows))
    entry = {
        "variant": variant.label,
        "hash": variant.hash,
        "data": data,
        "seed": args.seed,
        "cloud": "always right" if cloud is None else "teacher",
        "parameters": provenance.get("parameters"),
        "recipe": provenance.get("recipe"),
        "training": provenance.get("training"),
        **deferral(answers, variant=variant.hash, data=data, seed=args.seed),
    }
    bundles = json.loads(args.output.read_text(encoding="utf-8"))["bundles"] if args.output.is_file() else {}
    write_json(args.output, _rounded({"format": FORMAT, "bundles": {**bundles, name: entry}}))


def _rounded(value: Any) -> Any:
    """Numbers with as many digits as they are worth."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()

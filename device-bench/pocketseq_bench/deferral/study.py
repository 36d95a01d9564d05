"""What each scorer gains by deferring, and how often a promise is kept on rows drawn from a known truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from pocketseq.calibration import Calibrated, Judged, Promise, calibrate_parts
from pocketseq.calibration.calibrated import confidences_of, losses_of
from pocketseq.calibration.guarantee import Rows, candidates, choose_threshold
from pocketseq.calibration.measures import deferral_area, interval, resamplings
from pocketseq.calibration.report import measure
from pocketseq.confidence import Scorer
from pocketseq.manifest import Guarantee
from pocketseq.records import plain

RISKS: Final = (0.05, 0.1, 0.2)
BASELINE: Final = "chow_average"
RESAMPLINGS: Final = 1000
CHOOSING: Final = 500
TESTING: Final = 800
"""Rows of one resampled calibration: those that give the candidates, and those that test them."""


def deferral(
    choosing: Sequence[Judged],
    testing: Sequence[Judged],
    *,
    promise: Promise | None = None,
    variant: str,
    data: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Calibrate on answers whose loss is known, and measure what came of it on others, as JSON values.

    Args:
        choosing: What ``judge`` gave; these fit and choose.
        testing: The same of other rows, on which everything is measured.
        promise: What was counted as a loss, and by which test it is bounded.
        variant: ``Variant.hash`` of what answered.
        data: Fingerprint of the rows.
        seed: Seed of the bootstraps and of the resamplings.
    """
    promise = promise or Promise()
    found = calibrate_parts(choosing, testing, promise, variant=variant, data=data, seed=seed)
    chosen = found.calibration.scorer
    weights = resamplings(len(found.tested), seed=seed)
    return {
        "rows": {"chose": len(found.chosen), "tested": len(found.tested)},
        "base_risk": found.base_risk,
        "cloud_risk": float(np.mean([answer.cloud_loss for answer in found.tested])),
        "chosen": chosen,
        "risk": found.calibration.risk,
        "coverage": found.calibration.coverage,
        "served_right": found.calibration.accuracy,
        f"gain_over_{BASELINE}": {name: _advantage(found, name, weights) for name in found.scorers if name != BASELINE},
        "scorers": {name: _measures(found, name, weights) for name in found.scorers},
        "promise": [kept(found.tested, found.scorers[chosen], risk=risk, guarantee=promise.test, seed=seed) for risk in RISKS],
    }


def kept(
    population: Sequence[Judged],
    scorer: Scorer,
    *,
    risk: float,
    delta: float = 0.05,
    guarantee: Guarantee = "binomial",
    seed: int = 0,
) -> dict[str, Any]:
    """How often a calibration on rows drawn from a population keeps its promise on the whole of it.

    Args:
        population: Answers whose loss is known; they are the truth.
        scorer: Fixed before; it was fitted and chosen on other rows.
        risk: Largest mean loss among those served.
        delta: Probability that the promise does not hold.
        guarantee: By which test.
        seed: Seed of the draws.
    """
    confidences, losses = confidences_of(population, scorer), losses_of(population)
    whole = Rows.of(confidences, losses)
    rng = np.random.default_rng(seed)
    count = broken = feasible = served = 0
    for _ in range(RESAMPLINGS):
        drawn = rng.integers(0, len(population), CHOOSING + TESTING)
        choosing, testing = (Rows.of(confidences[part], losses[part]) for part in (drawn[:CHOOSING], drawn[CHOOSING:]))
        thresholds = candidates(choosing, risk=risk, guarantee=guarantee)
        threshold = choose_threshold(testing, candidates=thresholds, risk=risk, delta=delta, guarantee=guarantee)
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
        "coverage": found.coverages[name],
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

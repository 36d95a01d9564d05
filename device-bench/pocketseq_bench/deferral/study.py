"""What each scorer gains by deferring, and how often a promise is kept on rows drawn from a known truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from pocketseq.calibration import Calibrated, Judged, Promise, calibrate_parts
from pocketseq.calibration.calibrated import confidences_of, losses_of
from pocketseq.calibration.guarantee import Rows, candidates, choose_threshold
from pocketseq.calibration.measures import deferral_area, resamplings
from pocketseq.calibration.report import measure
from pocketseq.confidence import Scorer
from pocketseq.manifest import Guarantee
from pocketseq.records import plain

RISKS: Final = (0.05, 0.1, 0.2)
BASELINE: Final = "chow_average"
RESAMPLINGS: Final = 1000
_COMMON: Final = 0.975
"""Share of the resamplings in which the baseline must gain something for bounds relative to it."""
CHOOSING: Final = 500
TESTING: Final = 800
"""Rows of one resampled calibration: those that give the candidates, and those that test them."""


def deferral(
    choosing: Sequence[Judged],
    testing: Sequence[Judged],
    *,
    seen: Sequence[Judged] = (),
    promise: Promise | None = None,
    variant: str,
    data: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Calibrate on answers whose loss is known, and measure what came of it on others, as JSON values.

    Args:
        choosing: What ``judge`` gave; these fit and choose.
        testing: The same of other rows, on which everything is measured.
        seen: The same of rows that the models learnt from; they may help to fit, and no more.
        promise: What was counted as a loss, and by which test it is bounded.
        variant: ``Variant.hash`` of what answered.
        data: Fingerprint of the rows.
        seed: Seed of the bootstraps and of the resamplings.
    """
    promise = promise or Promise()
    found = calibrate_parts(choosing, testing, promise, seen=seen, variant=variant, data=data, seed=seed)
    chosen = found.calibration.scorer
    weights = resamplings(len(found.tested), seed=seed)
    return {
        "rows": {"chose": len(found.chosen), "tested": len(found.tested), "helped": found.helped},
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


def _advantage(found: Calibrated, name: str, weights: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """Area over chance beside the baseline's, both on the same resamplings.

    ``value``, ``low`` and ``high`` are relative, less 1; without bounds where in more than one of 40 resamplings the baseline gains
    nothing to be relative to. ``difference`` always has bounds. ``a_tenth_better`` is the share of resamplings in which the area is
    a tenth larger than the baseline's, and more than nothing.
    """
    gains = np.array([answer.loss - answer.cloud_loss for answer in found.tested])
    ours, theirs = (confidences_of(found.tested, found.scorers[one]) for one in (name, BASELINE))
    better, base = (np.asarray(deferral_area(one, gains, weights)) for one in (ours, theirs))
    area, area_there = (float(deferral_area(one, gains)) for one in (ours, theirs))
    low = high = None
    if (base > 0).mean() > _COMMON:
        low, high = np.percentile(better[base > 0] / base[base > 0] - 1, (2.5, 97.5)).tolist()
    difference = np.percentile(better - base, (2.5, 97.5)).tolist()
    return {
        "value": area / area_there - 1 if area_there > 0 else None,
        "low": low,
        "high": high,
        "difference": {"value": area - area_there, "low": difference[0], "high": difference[1]},
        "a_tenth_better": float(((better > 0) & (better >= 1.1 * base)).mean()),
    }

"""Measures of a confidence: by hand, against a slow reference, and at the empty edge."""

from __future__ import annotations

import numpy as np
import pytest

from pocketseq.calibration.measures import (
    aurc,
    auroc,
    brier,
    deferral_area,
    excess_aurc,
    interval,
    reliability,
    resamplings,
)

CONFIDENCES = np.array([0.2, 0.9, 0.6, 0.8])
LOSSES = np.array([0.0, 0.0, 1.0, 0.0])


def test_the_area_counts_ties_half() -> None:
    """By hand: of four pairs of a right and a wrong answer three are in order and one is tied."""
    assert auroc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])) == 3.5 / 4
    assert auroc(np.array([0.1, 0.9]), np.array([True, False])) == 0.0


def test_the_area_is_undefined_without_both_kinds() -> None:
    """All right or all wrong leaves nothing to tell apart."""
    assert auroc(np.array([0.1, 0.9]), np.array([True, True])) is None
    assert auroc(np.array([0.1, 0.9]), np.array([False, False])) is None


def test_the_area_under_the_risk_coverage_curve_by_hand() -> None:
    """0, 0, 1/3, 1/4, on average; a perfect order would only err at the last."""
    assert aurc(CONFIDENCES, LOSSES) == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)
    assert excess_aurc(CONFIDENCES, LOSSES) == pytest.approx((1 / 3) / 4)


def test_the_deferral_area_by_hand() -> None:
    """The wrong answer is the second that is handed over: the curve rises by a quarter there, chance along a line."""
    curve = np.array([0, 0, 0.25, 0.25, 0.25])
    by_hand = np.trapezoid(curve, dx=0.25) - 0.25 / 2
    assert deferral_area(CONFIDENCES, LOSSES) == pytest.approx(by_hand)


def test_the_deferral_area_is_nothing_where_confidence_says_nothing() -> None:
    """All of one confidence, or a cloud that is no better."""
    assert deferral_area(np.full(4, 0.5), LOSSES) == pytest.approx(0)
    assert deferral_area(CONFIDENCES, np.zeros(4)) == 0


def test_with_a_perfect_cloud_the_deferral_area_is_a_scaled_auroc() -> None:
    """e (1 − e) (AUROC − ½), ties among them."""
    rng = np.random.default_rng(2)
    confidences = rng.integers(0, 30, 500) / 30
    losses = (rng.uniform(size=500) > confidences).astype(float)
    share = losses.mean()
    area = auroc(confidences, losses == 0)
    assert area is not None
    assert deferral_area(confidences, losses) == pytest.approx(share * (1 - share) * (area - 0.5))


def test_a_cloud_that_errs_too_gains_less_and_may_lose() -> None:
    """Handing over what the cloud gets wrong gains nothing, and what it alone gets wrong costs."""
    gains = np.array([0.0, -1.0, 1.0, 0.0])
    curve = np.array([0, 0, 0.25, 0.25, 0.0])
    assert deferral_area(CONFIDENCES, gains) == pytest.approx(np.trapezoid(curve, dx=0.25) - 0)


def test_resamplings_measure_what_repeated_rows_would() -> None:
    """Weights against rows that are really repeated."""
    rng = np.random.default_rng(4)
    confidences, losses = rng.integers(0, 9, 40) / 9, rng.uniform(size=40)
    weights = resamplings(40, seed=1, count=3)
    assert weights.sum(axis=1).tolist() == [40, 40, 40]
    for measure in (deferral_area, aurc):
        found = measure(confidences, losses, weights)
        for number in range(3):
            repeated = np.repeat(np.arange(40), weights[number].astype(int))
            assert found[number] == pytest.approx(measure(confidences[repeated], losses[repeated]))


def test_an_interval_holds_its_value() -> None:
    """And is as wide as the draws differ."""
    rng = np.random.default_rng(6)
    confidences = rng.uniform(size=300)
    losses = (rng.uniform(size=300) > confidences).astype(float)
    found = interval(lambda weights: aurc(confidences, losses, weights), resamplings(300, seed=0))
    assert found.low < found.value < found.high
    assert 0.03 < found.high - found.low < 0.2


def test_reliability_by_hand() -> None:
    """Two bins of two: 0.4 confident and half right, 0.85 confident and right; a quarter of each distance."""
    found = reliability(CONFIDENCES, LOSSES, bins=2)
    assert found.confidence == pytest.approx((0.4, 0.85))
    assert found.right == (0.5, 1.0)
    assert found.rows == (2, 2)
    assert found.ece == pytest.approx((0.1 + 0.15) / 2)


def test_few_rows_make_few_bins() -> None:
    """No bin is empty."""
    assert reliability(np.array([0.7]), np.array([1.0])).rows == (1,)


def test_the_brier_score_by_hand() -> None:
    """Squares of 0.8, 0.1, 0.6 and 0.2, on average."""
    assert brier(CONFIDENCES, LOSSES) == pytest.approx((0.64 + 0.01 + 0.36 + 0.04) / 4)

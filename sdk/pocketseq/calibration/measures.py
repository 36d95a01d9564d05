"""Measures of a confidence against what it should have foreseen; pure, over whole arrays, and over resamplings of them at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

_BINS: Final = 15
_RESAMPLINGS: Final = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A measure with the range in which 95 of 100 bootstrap resamplings lie."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against truth, in bins of as many answers each."""

    confidence: tuple[float, ...]
    """Mean confidence of each bin."""
    right: tuple[float, ...]
    """1 less the mean loss of each bin."""
    rows: tuple[int, ...]
    """Answers in each bin."""

    @property
    def ece(self) -> float:
        """Expected calibration error: mean distance of the two, over all answers."""
        distance = np.abs(np.array(self.confidence) - np.array(self.right))
        return float((distance * self.rows).sum() / sum(self.rows))


def auroc(confidences: Array, correct: NDArray[np.bool_]) -> float | None:
    """Probability that a right answer has more confidence than a wrong one, ties counted half.

    Args:
        confidences: float64 [rows].
        correct: bool [rows].

    Returns:
        0 to 1, or None where all answers are right or all wrong.
    """
    positives = int(correct.sum())
    negatives = correct.size - positives
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(confidences, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[correct].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def deferral_area(confidences: Array, gains: Array, weights: Array | None = None) -> Array:
    """Area between the deferral curve and that of deferring at random.

    The curve: for every share of the rows that is handed to the cloud, the least confident first, what is gained over handing over
    none. Gupta et al. 2024, "Language Model Cascades", section 4.1. With a cloud that is always right and losses of 0 or 1 it is
    e · (1 − e) · (AUROC − ½), where e is the share of wrong answers.

    Args:
        confidences: float64 [rows].
        gains: Loss of the local answer less that of the cloud's, float64 [rows].
        weights: How often each row counts, float64 [resamplings, rows]; once each if not given.

    Returns:
        float64 [resamplings], or one number without weights; 0 is as good as chance.
    """
    order, starts = _groups(confidences)
    counts = _counts(weights, confidences.size)[:, order]
    rows = np.add.reduceat(counts, starts, axis=1)
    gained = np.add.reduceat(counts * gains[order], starts, axis=1)
    whole, total = rows.sum(axis=1), gained.sum(axis=1)
    # Rows of one confidence are deferred in any order: on average along a straight line.
    reached = np.cumsum(gained, axis=1) - gained / 2
    area: Array = (reached * rows).sum(axis=1) / whole**2 - total / whole / 2
    return area if weights is not None else area.reshape(())


def aurc(confidences: Array, losses: Array, weights: Array | None = None) -> Array:
    """Area under the risk–coverage curve: the mean loss of what is served, averaged over how many are served.

    Args:
        confidences: float64 [rows].
        losses: float64 [rows].
        weights: As in ``deferral_area``.

    Returns:
        As ``deferral_area``; the less the better.
    """
    order, starts = _groups(-confidences)
    counts = _counts(weights, confidences.size)[:, order]
    rows = np.add.reduceat(counts, starts, axis=1)
    lost = np.add.reduceat(counts * losses[order], starts, axis=1)
    risk = np.cumsum(lost, axis=1) / np.maximum(np.cumsum(rows, axis=1), 1)
    area: Array = (risk * rows).sum(axis=1) / rows.sum(axis=1)
    return area if weights is not None else area.reshape(())


def separation(confidences: Array, losses: Array, weights: Array | None = None) -> Array:
    """AUROC out of the deferral area, so that it can be resampled; for losses of 0 or 1, NaN where all are alike.

    Args:
        confidences: float64 [rows].
        losses: float64 [rows].
        weights: As in ``deferral_area``.
    """
    counts = _counts(weights, losses.size)
    wrong = (counts @ losses) / counts.sum(axis=1)
    scale = np.where((wrong > 0) & (wrong < 1), wrong * (1 - wrong), np.nan)
    found: Array = 0.5 + deferral_area(confidences, losses, counts) / scale
    return found if weights is not None else found.reshape(())


def excess_aurc(confidences: Array, losses: Array) -> float:
    """AURC less that of a confidence that puts every better answer before every worse one (E-AURC; Geifman et al. 2019)."""
    # Distinct, so that what is equally bad is still served one by one.
    best = np.empty(losses.size)
    best[np.argsort(-losses, kind="stable")] = np.arange(losses.size)
    return float(aurc(confidences, losses) - aurc(best, losses))


def brier(confidences: Array, losses: Array) -> float:
    """Mean squared distance of the confidence from 1 less the loss."""
    return float(np.mean((confidences - (1 - losses)) ** 2))


def reliability(confidences: Array, losses: Array, *, bins: int = _BINS) -> Reliability:
    """Divide the answers into bins of as many each, by confidence.

    Args:
        confidences: float64 [rows], at least one.
        losses: float64 [rows].
        bins: Bins at most; fewer where there are fewer rows.
    """
    parts = np.array_split(np.argsort(confidences, kind="stable"), min(bins, confidences.size))
    return Reliability(
        confidence=tuple(float(confidences[part].mean()) for part in parts),
        right=tuple(float(1 - losses[part].mean()) for part in parts),
        rows=tuple(map(len, parts)),
    )


def resamplings(rows: int, *, seed: int, count: int = _RESAMPLINGS) -> Array:
    """How often each row comes in bootstrap resamplings of as many rows.

    Args:
        rows: Number of rows.
        seed: Seed of the draws.
        count: Number of resamplings.

    Returns:
        float64 [count, rows].
    """
    return np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=count).astype(np.float64)


def interval(measure: Callable[[Array | None], Array], weights: Array) -> Interval:
    """A measure with its bootstrap interval.

    Args:
        measure: (weights as in ``deferral_area``) → the measure.
        weights: What ``resamplings`` gave.
    """
    low, high = np.percentile(measure(weights), (2.5, 97.5))
    return Interval(value=float(measure(None)), low=float(low), high=float(high))


def _groups(keys: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rising order, and where in it each run of equal keys starts."""
    order = np.argsort(keys, kind="stable")
    return order, np.flatnonzero(np.append(True, np.diff(keys[order]) != 0))


def _counts(weights: Array | None, rows: int) -> Array:
    return np.ones((1, rows)) if weights is None else weights

"""Calibration: from answers known to be right or wrong to a threshold of confidence with a finite-sample promise.

Learn-then-Test (Angelopoulos et al. 2021, "Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control") with
fixed-sequence testing and exact binomial p-values: of the answers served, at most ``risk`` are wrong, with probability
1 − ``delta`` over the calibration rows. The order of the candidate thresholds comes from other rows than those that test them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.confidence import DEFAULT_SCORER, SCORERS, confidence
from pocketseq.errors import CalibrationError
from pocketseq.examples import Example
from pocketseq.files import digest
from pocketseq.manifest import SERVES_NOTHING, Calibration
from pocketseq.model import PocketModel

_STEPS: Final = 50
"""Candidate thresholds: fewer give away coverage, more give chance more occasions to stop the sequence early."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer that is known to be right or wrong."""

    id: str
    """The row's id, by which rows are divided."""
    correct: bool
    logprobs: tuple[float, ...]
    """Raw log-probability of each token."""


def calibrate(
    model: PocketModel,
    examples: Sequence[Example],
    *,
    risk: float = 0.1,
    delta: float = 0.05,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Let a model answer labelled rows, and find the threshold to serve it by; bound to the variant that answered.

    Args:
        model: The very variant that will be served.
        examples: Rows that it was not trained on; an answer is right when it is the target.
        risk: Largest share of wrong answers among those served.
        delta: Probability that the promise does not hold.
        progress: Called with the number of rows answered, after each.

    Raises:
        CalibrationError: see ``calibration_of``.
        InputError: a row that the model's template does not take.
    """
    _check(len(examples), risk, delta)
    data = digest(sorted([row.id, row.target] for row in examples))
    return calibration_of(judge(model, examples, progress=progress), variant=model.variant.hash, data=data, risk=risk, delta=delta)


def judge(model: PocketModel, examples: Sequence[Example], *, progress: Callable[[int], None] | None = None) -> list[Judged]:
    """Let a model answer labelled rows, one by one as it is served: in a batch it may round, and so answer, differently.

    Args:
        model: The model.
        examples: Labelled rows.
        progress: Called with the number of rows answered, after each.
    """
    judged = []
    for number, row in enumerate(examples, start=1):
        result = model.generate(row.fields)
        judged.append(Judged(id=row.id, correct=result.text == row.target, logprobs=result.token_logprobs))
        if progress is not None:
            progress(number)
    return judged


def calibration_of(judged: Sequence[Judged], *, variant: str, data: str, risk: float = 0.1, delta: float = 0.05) -> Calibration:
    """Choose a scorer on one half of the rows and test thresholds on the other; pure.

    Args:
        judged: Answers known to be right or wrong.
        variant: ``Variant.hash`` of what answered.
        data: Fingerprint of the rows.
        risk: Largest share of wrong answers among those served.
        delta: Probability that the promise does not hold.

    Returns:
        The calibration; with a threshold that serves nothing where no candidate keeps the promise.

    Raises:
        CalibrationError: fewer than 2 rows, or ``risk`` or ``delta`` not between 0 and 1.
    """
    _check(len(judged), risk, delta)
    # By hash, so that neither half is the easy part of a sorted file.
    ordered = sorted(judged, key=lambda answer: digest(answer.id))
    choosing, testing = ordered[::2], ordered[1::2]
    right = np.array([answer.correct for answer in choosing])
    areas = {scorer: auroc(_confidences(choosing, scorer), right) or 0.0 for scorer in SCORERS}
    scorer = max(areas, key=lambda name: (areas[name], name == DEFAULT_SCORER))
    candidates = _candidates(_confidences(choosing, scorer), right, risk)
    confidences = _confidences(testing, scorer)
    correct = np.array([answer.correct for answer in testing])
    found = choose_threshold(confidences, correct, candidates=candidates, risk=risk, delta=delta)
    threshold = SERVES_NOTHING if found is None else found
    served = confidences >= threshold
    return Calibration(
        scorer=scorer,
        threshold=threshold,
        risk=risk,
        delta=delta,
        coverage=float(served.mean()),
        accuracy=float(correct[served].mean()) if served.any() else None,
        n=len(testing),
        auroc=auroc(confidences, correct),
        variant=variant,
        data=data,
    )


def choose_threshold(
    confidences: NDArray[np.float64], correct: NDArray[np.bool_], *, candidates: Sequence[float], risk: float, delta: float
) -> float | None:
    """Loosen the threshold along the candidates for as long as the answers served are shown to keep the promise.

    Args:
        confidences: float64 [rows].
        correct: bool [rows].
        candidates: Thresholds, strictest first; they must not come from these rows.
        risk: Largest share of wrong answers among those served.
        delta: Probability that the promise does not hold.

    Returns:
        The loosest threshold before the first failure, or None where already the first fails.
    """
    chosen = None
    for threshold in candidates:
        served = confidences >= threshold
        if binomial_cdf(int((served & ~correct).sum()), int(served.sum()), risk) > delta:
            break
        chosen = threshold
    return chosen


def auroc(confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> float | None:
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


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P[Bin(n, p) ≤ k], exact up to rounding.

    Args:
        k: Successes at most.
        n: Trials.
        p: Probability of a success, between 0 and 1.
    """
    if k >= n:
        return 1.0
    hit, miss, whole = math.log(p), math.log1p(-p), math.lgamma(n + 1)
    terms = (math.exp(whole - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * hit + (n - i) * miss) for i in range(k + 1))
    return min(1.0, math.fsum(terms))


def _confidences(judged: Sequence[Judged], scorer: str) -> NDArray[np.float64]:
    """Confidence of each answer; one without any is never served."""
    scores = (confidence(answer.logprobs, scorer) for answer in judged)
    return np.array([0.0 if score is None else score for score in scores])


def _candidates(confidences: NDArray[np.float64], correct: NDArray[np.bool_], risk: float) -> list[float]:
    """Thresholds that serve more and more of these rows, from the one that these rows believe in most.

    A start at the very strictest would fail for want of answers, however right they are.
    """
    thresholds = np.unique(np.quantile(confidences, np.linspace(0, 1, _STEPS + 1), method="lower"))[::-1].tolist()
    served = [confidences >= threshold for threshold in thresholds]
    doubts = [binomial_cdf(int((rows & ~correct).sum()), int(rows.sum()), risk) for rows in served]
    return [float(threshold) for threshold in thresholds[doubts.index(min(doubts)) :]]


def _check(rows: int, risk: float, delta: float) -> None:
    for name, value in (("risk", risk), ("delta", delta)):
        if not 0 < value < 1:
            raise CalibrationError(f"{name}: expected a number between 0 and 1, found {value!r}")
    if rows < 2:
        raise CalibrationError(f"expected at least 2 labelled rows, some hundreds for a useful threshold, found {rows}")

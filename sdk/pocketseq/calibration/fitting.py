"""Fitting the gate and the learned scorer, with scikit-learn; a device only evaluates them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.calibration.judging import Judged
from pocketseq.confidence import FEATURES, PLAIN_FEATURES, Logistic, features, gate_names, gate_values
from pocketseq.errors import MissingExtraError

LEAST_ROWS: Final = 100
"""With fewer nothing is fitted."""
_LEAST_OF_A_KIND: Final = 10
"""Right answers, and wrong ones, with fewer of which nothing is fitted."""
_GATE_STRENGTHS: Final = (1e-4, 1e-3, 1e-2, 1e-1)
"""Inverse strengths of the L2 penalty to choose from, over hundreds of numbers of an encoder state."""
_STRENGTHS: Final = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The same over some tens of features. Boosted trees and a state of the encoder among the features were no better (measured on
python-fix, English to IPA and English to Python, by cross-validation)."""
_FOLDS: Final = 5
_WORTH: Final = 0.03
"""Share by which the spread must lower the surprise to be worth its time, a twentieth of a suggestion's (on python-fix)."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was learnt from answers whose loss is known."""

    learned: Logistic
    """Over ``PLAIN_FEATURES``, or ``FEATURES`` where the spread tells more."""
    gate: Logistic
    """Over the pooled encoder state and the input's length."""
    rows: Sequence[Judged]
    """The answers, each with what a gate says of it that was not fitted on it."""
    foreseen: NDArray[np.float64]
    """Log-odds that each is right, by a scorer that was not fitted on it: float64 [rows]; −∞ where an answer has no numbers."""


@dataclass(frozen=True, slots=True)
class _Regression:
    """A regression with the strength of penalty that foresees best."""

    logistic: Logistic
    foreseen: NDArray[np.float64]
    """Log-odds of each row by a regression that did not see it, float64 [rows]."""
    surprise: NDArray[np.float64]
    """Cross-entropy of these with what came, in degrees too: float64 [rows]."""


def can_fit() -> bool:
    """Whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


def fit(answers: Sequence[Judged]) -> Fitted | None:
    """Fit the gate, then the scorer, which takes what the gate says of answers that it was not fitted on.

    Both are cross-fitted: every answer is also foreseen by regressions over the other folds, so that the rows that fit can choose.

    Args:
        answers: With pooled state; none of those that test.

    Returns:
        What was learnt, or None where there are too few answers, or too few right or wrong ones, to learn from.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if not can_fit():
        raise MissingExtraError("calibrate", "sklearn")
    places = [place for place, answer in enumerate(answers) if _is_usable(answer)]
    usable = [answers[place] for place in places]
    losses = np.array([answer.loss for answer in usable])
    wrong = float(losses.sum())
    if len(usable) < LEAST_ROWS or not _LEAST_OF_A_KIND <= wrong <= len(usable) - _LEAST_OF_A_KIND:
        return None
    pooled = [answer.pooled for answer in usable if answer.pooled is not None]
    states = np.array([gate_values(state, len(answer.evidence.source)) for state, answer in zip(pooled, usable, strict=True)])
    gate = _fit(gate_names(len(pooled[0])), states.astype(np.float64), losses, _GATE_STRENGTHS)
    rows = [
        replace(answer, evidence=replace(answer.evidence, gate=float(log_odds)))
        for answer, log_odds in zip(usable, gate.foreseen, strict=True)
    ]
    learned = _scorer(rows, losses)
    judged, foreseen = list(answers), np.full(len(answers), -math.inf)
    for place, row, log_odds in zip(places, rows, learned.foreseen, strict=True):
        judged[place], foreseen[place] = row, log_odds
    return Fitted(learned=learned.logistic, gate=gate.logistic, rows=judged, foreseen=foreseen)


def _is_usable(answer: Judged) -> bool:
    logprobs, tokens = answer.evidence.logprobs, answer.evidence.tokens
    return answer.pooled is not None and 0 < len(logprobs) == len(tokens) and not any(map(math.isnan, logprobs))


def _scorer(rows: Sequence[Judged], losses: NDArray[np.float64]) -> _Regression:
    """The regression over the plain features, unless the spread foresees so much better that it is worth its time, and no noise."""
    values = [features(row.evidence) for row in rows]
    plain, whole = (
        _fit(names, np.array([[row[name] for name in names] for row in values]), losses, _STRENGTHS)
        if all(name in row for row in values for name in names)
        else None
        for names in (PLAIN_FEATURES, FEATURES)
    )
    assert plain is not None
    if whole is None:
        return plain
    less = plain.surprise - whole.surprise
    least = max(_WORTH * plain.surprise.mean(), less.std() / math.sqrt(len(less)))
    return whole if less.mean() > least else plain


def _fit(names: tuple[str, ...], rows: NDArray[np.float64], losses: NDArray[np.float64], strengths: Sequence[float]) -> _Regression:
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    standard = (rows - mean) / scale
    fold = np.arange(len(rows)) % _FOLDS
    found = []
    for strength in strengths:
        foreseen = np.empty(len(rows))
        for number in range(_FOLDS):
            held = fold == number
            foreseen[held] = _regression(standard[~held], losses[~held], strength).decision_function(standard[held])
        found.append((np.logaddexp(0, foreseen) - (1 - losses) * foreseen, foreseen))
    best = min(range(len(found)), key=lambda place: float(found[place][0].mean()))
    regression = _regression(standard, losses, strengths[best])
    logistic = Logistic(
        features=names,
        mean=_rounded(mean),
        scale=_rounded(scale),
        weights=_rounded(regression.coef_[0]),
        bias=_rounded(regression.intercept_)[0],
    )
    surprise, foreseen = found[best]
    return _Regression(logistic, foreseen, surprise)


def _regression(rows: NDArray[np.float64], losses: NDArray[np.float64], strength: float) -> Any:
    """Logistic regression of 1 − loss; a loss between 0 and 1 counts as so much wrong and the rest right."""
    from sklearn.linear_model import LogisticRegression

    right, wrong = losses < 1, losses > 0
    return LogisticRegression(C=strength, max_iter=1000).fit(
        np.concatenate([rows[right], rows[wrong]]),
        np.repeat([1, 0], [right.sum(), wrong.sum()]),
        sample_weight=np.concatenate([1 - losses[right], losses[wrong]]),
    )


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Six significant digits are more than the rows can tell, and keep the manifest short."""
    return tuple(float(f"{value:.6g}") for value in values)

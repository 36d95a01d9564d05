"""Fitting the gate and the learned scorer, with scikit-learn; a device only evaluates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.calibration.judging import Judged
from pocketseq.confidence import FEATURES, Logistic, features, gate_names, gate_values
from pocketseq.errors import MissingExtraError

LEAST_ROWS: Final = 100
"""With fewer nothing is fitted."""
_LEAST_OF_A_KIND: Final = 10
"""Right answers, and wrong ones, with fewer of which nothing is fitted."""
_STRENGTHS: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the L2 penalty to choose from."""
_FOLDS: Final = 5


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was learnt from answers whose loss is known."""

    learned: Logistic
    """Over ``FEATURES``."""
    gate: Logistic
    """Over the pooled encoder state and the input's length."""


def can_fit() -> bool:
    """Whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


def fit(answers: Sequence[Judged]) -> Fitted | None:
    """Fit the gate, then the scorer, which takes what the gate says of answers that it was not fitted on.

    Args:
        answers: With spread and pooled state; none of those that choose or test.

    Returns:
        The two, or None where there are too few answers, or too few right or wrong ones, to learn from.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if not can_fit():
        raise MissingExtraError("calibrate", "sklearn")
    usable = [answer for answer in answers if answer.pooled is not None and answer.evidence.entropies]
    losses = np.array([answer.loss for answer in usable])
    wrong = float(losses.sum())
    if len(usable) < LEAST_ROWS or not _LEAST_OF_A_KIND <= wrong <= len(usable) - _LEAST_OF_A_KIND:
        return None
    pooled = [answer.pooled for answer in usable if answer.pooled is not None]
    states = np.array([gate_values(state, answer.evidence.input_tokens) for state, answer in zip(pooled, usable, strict=True)])
    gate, foreseen = _fit(gate_names(len(pooled[0])), states.astype(np.float64), losses)
    rows = [
        list(features(replace(answer.evidence, gate=log_odds)).values()) for answer, log_odds in zip(usable, foreseen, strict=True)
    ]
    learned, _ = _fit(FEATURES, np.array(rows), losses)
    return Fitted(learned=learned, gate=gate)


def _fit(names: tuple[str, ...], rows: NDArray[np.float64], losses: NDArray[np.float64]) -> tuple[Logistic, NDArray[np.float64]]:
    """A regression with the strength of penalty that foresees best, and its log-odds for each row by one that did not see it."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    standard = (rows - mean) / scale
    fold = np.arange(len(rows)) % _FOLDS
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for strength in _STRENGTHS:
        foreseen = np.empty(len(rows))
        for number in range(_FOLDS):
            held = fold == number
            foreseen[held] = _regression(standard[~held], losses[~held], strength).decision_function(standard[held])
        # Cross-entropy of log-odds with what came, in degrees too.
        surprise = float(np.mean(np.logaddexp(0, foreseen) - (1 - losses) * foreseen))
        if best is None or surprise < best[0]:
            best = (surprise, strength, foreseen)
    assert best is not None
    found = _regression(standard, losses, best[1])
    logistic = Logistic(
        features=names,
        mean=_rounded(mean),
        scale=_rounded(scale),
        weights=_rounded(found.coef_[0]),
        bias=_rounded(found.intercept_)[0],
    )
    return logistic, best[2]


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

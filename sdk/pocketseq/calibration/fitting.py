"""Fitting the gate and what is learnt, with scikit-learn; a device only evaluates them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.calibration.gain import fit_gain
from pocketseq.calibration.judging import Judged
from pocketseq.calibration.regression import Table, surprise
from pocketseq.confidence import FEATURES, PLAIN_FEATURES, Gain, Logistic, features, gate_names, gate_values
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
    gain: Gain | None = None
    """What tells where the cloud would do better; None where the cloud is always right, or its errors are too few to learn from."""
    gain_foreseen: NDArray[np.float64] | None = None
    """As ``foreseen``, by that."""
    helped: int = 0
    """Rows that the models had learnt from, and that helped to fit what foresees the device."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A regression with the strength of penalty that foresees best."""

    table: Table
    foreseen: NDArray[np.float64]
    """Log-odds of each row by a regression that did not see it, float64 [rows]."""
    surprise: NDArray[np.float64]
    """See ``regression.surprise``: float64 [rows that choose]."""
    strength: float


@dataclass(frozen=True, slots=True)
class _Pair:
    """A gate and a scorer that takes what it says."""

    rows: Sequence[Judged]
    """Each with what a gate says of it that was not fitted on it: those that choose, then those that only help."""
    losses: NDArray[np.float64]
    """Of each."""
    gate: _Found
    learned: _Found


def can_fit() -> bool:
    """Whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


def fit(answers: Sequence[Judged], *, seen: Sequence[Judged] = ()) -> Fitted | None:
    """Fit the gate, then the scorer, which takes what the gate says of answers that it was not fitted on.

    Both are cross-fitted: every answer is also foreseen by regressions over the other folds, so that the rows that fit can choose.

    Args:
        answers: With pooled state; none of those that test.
        seen: Answers to rows that the models learnt from, where they are right more often than elsewhere. They help to fit where
            the answers above are foreseen better with them, and choose nothing.

    Returns:
        What was learnt, or None where there are too few answers, or too few right or wrong ones, to learn from.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if not can_fit():
        raise MissingExtraError("calibrate", "sklearn")
    places = [place for place, answer in enumerate(answers) if _is_usable(answer)]
    usable = [answers[place] for place in places]
    if len(usable) < LEAST_ROWS or not _are_both(np.array([answer.loss for answer in usable])):
        return None
    helping = [answer for answer in seen if _is_usable(answer)]
    pairs = [_pair(usable, more) for more in ([], helping)[: 1 + bool(helping)]]
    pair = min(pairs, key=lambda one: float(one.learned.surprise.mean()))
    judged = list(answers)
    for place, row in zip(places, pair.rows, strict=False):
        judged[place] = row

    def of_all(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.full(len(answers), -math.inf)
        found[places] = log_odds[: len(places)]
        return found

    gain = fit_gain(usable, seen=helping) if _are_both(np.array([row.cloud_loss for row in usable])) else None
    return Fitted(
        learned=pair.learned.table.logistic(pair.losses, strength=pair.learned.strength),
        gate=pair.gate.table.logistic(pair.losses, strength=pair.gate.strength),
        rows=judged,
        foreseen=of_all(pair.learned.foreseen),
        gain=None if gain is None else gain.gain,
        gain_foreseen=None if gain is None else of_all(gain.foreseen),
        helped=len(pair.rows) - len(usable),
    )


def _pair(answers: Sequence[Judged], helping: Sequence[Judged]) -> _Pair:
    count, everything = len(answers), [*answers, *helping]
    losses = np.array([answer.loss for answer in everything])
    pooled = [answer.pooled for answer in everything if answer.pooled is not None]
    states = np.array([gate_values(state, len(answer.evidence.source)) for state, answer in zip(pooled, everything, strict=True)])
    gate = _best(Table.of(gate_names(len(pooled[0])), states.astype(np.float64)), losses, _GATE_STRENGTHS, count)
    rows = [
        replace(answer, evidence=replace(answer.evidence, gate=float(log_odds), state=answer.pooled))
        for answer, log_odds in zip(everything, gate.foreseen, strict=True)
    ]
    return _Pair(rows, losses, gate, _scorer(rows, losses, count))


def _is_usable(answer: Judged) -> bool:
    logprobs, tokens = answer.evidence.logprobs, answer.evidence.tokens
    return answer.pooled is not None and 0 < len(logprobs) == len(tokens) and not any(map(math.isnan, logprobs))


def _are_both(losses: NDArray[np.float64]) -> bool:
    """Whether there are enough right answers and enough wrong ones."""
    return _LEAST_OF_A_KIND <= float(losses.sum()) <= len(losses) - _LEAST_OF_A_KIND


def _best(table: Table, losses: NDArray[np.float64], strengths: Sequence[float], count: int) -> _Found:
    """The strength by which the first ``count`` rows are foreseen best."""
    found = []
    for strength in strengths:
        foreseen = table.foresee(losses, strength=strength)
        found.append(_Found(table, foreseen, surprise(foreseen[:count], losses[:count]), strength))
    return min(found, key=lambda one: float(one.surprise.mean()))


def _scorer(rows: Sequence[Judged], losses: NDArray[np.float64], count: int) -> _Found:
    """The regression over the plain features, unless the spread foresees so much better that it is worth its time, and no noise."""
    values = [features(row.evidence) for row in rows]
    plain, whole = (
        _best(Table.of(names, np.array([[row[name] for name in names] for row in values])), losses, _STRENGTHS, count)
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

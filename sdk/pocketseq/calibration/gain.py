"""Fitting the scorer of gain: where the cloud's answers are known, what is likelier to be right, the device or the cloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.calibration.judging import Judged
from pocketseq.calibration.regression import Table, rounded, surprise
from pocketseq.confidence import Gain, gain_names, gain_values

_STRENGTHS: Final = (1e-2, 3e-2, 1e-1)
"""Inverse strengths of the L2 penalty to choose from."""
_TRUST: Final = 0.3
"""What a number of the encoder state counts beside a feature: there are ten times as many."""
_WEIGHT: Final = 0.8
"""What the cloud counts. At 1, answers that both have right stand beside those that both have wrong, and no promise can be kept; at
0.8 as many can be served as by ``learned``, or nearly, and most of the gain stays (by cross-validation on python-fix and English to
IPA). The plain difference, P(device) − 0.8 · P(cloud), gained a little more, and at a strict risk served nothing: it believes most
in what the cloud has wrong."""


@dataclass(frozen=True, slots=True)
class FittedGain:
    """A scorer of gain with what it says of the rows that fitted it."""

    gain: Gain
    foreseen: NDArray[np.float64]
    """Log-odds of its confidence, by regressions that did not see the row, float64 [rows]."""


@dataclass(frozen=True, slots=True)
class _Two:
    """A regression to whether the device is right and one to whether the cloud is, under one penalty."""

    table: Table
    losses: tuple[NDArray[np.float64], NDArray[np.float64]]
    foreseen: tuple[NDArray[np.float64], NDArray[np.float64]]
    """Log-odds by regressions that did not see the row, float64 [rows that choose]."""
    strength: float
    surprise: float
    """Of both, on the rows that choose."""


def fit_gain(rows: Sequence[Judged], *, seen: Sequence[Judged] = ()) -> FittedGain | None:
    """Fit a regression to whether the device is right, another to whether the cloud is, and what they say together.

    They look at the same numbers under the same penalty, so that what both misjudge alike cancels out.

    Args:
        rows: Answers with tokens and a pooled state, right ones and wrong ones by the device and by the cloud.
        seen: More of them, to rows that the models learnt from: they help where the others are foreseen better with them.

    Returns:
        The scorer, or None where they foretell nothing.
    """
    two = min((found for more in ([], seen)[: 1 + bool(seen)] for found in _twos(rows, more)), key=lambda one: one.surprise)
    local, cloud = (1 / (1 + np.exp(-log_odds)) for log_odds in two.foreseen)
    worth = local - _WEIGHT * np.maximum(local, cloud)
    # Platt 1999: one slope and one offset make of it a probability of the local answer to be right.
    losses = two.losses[0][: len(rows)]
    folded = Table.of(("worth",), worth[:, np.newaxis]).logistic(losses, strength=1.0).folded()
    if folded.slopes[0] <= 0:
        return None
    slope, bias = rounded(np.array([folded.slopes[0], folded.bias]))
    fitted = (two.table.logistic(one, strength=two.strength) for one in two.losses)
    return FittedGain(Gain(next(fitted), next(fitted), _WEIGHT, slope, bias), bias + slope * worth)


def _twos(rows: Sequence[Judged], seen: Sequence[Judged]) -> Iterator[_Two]:
    everything = [*rows, *seen]
    states = [row.pooled for row in everything if row.pooled is not None]
    names = gain_names(len(states[0]))
    trust = np.where(np.arange(len(names) - 1 + len(states[0])) < len(names) - 1, 1.0, _TRUST)
    values = np.array([gain_values(row.evidence, state) for row, state in zip(everything, states, strict=True)])
    table = Table.of(names, values, trust=trust)
    losses = (np.array([row.loss for row in everything]), np.array([row.cloud_loss for row in everything]))
    for strength in _STRENGTHS:
        local, cloud = (table.foresee(one, strength=strength)[: len(rows)] for one in losses)
        doubt = sum(surprise(found, one[: len(rows)]).mean() for found, one in zip((local, cloud), losses, strict=True))
        yield _Two(table, losses, (local, cloud), strength, float(doubt))

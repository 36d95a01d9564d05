"""Fitting the scorer of gain: where the cloud's answers are known, what is likelier to be right, the device or the cloud."""

from __future__ import annotations

from collections.abc import Sequence
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


def fit_gain(rows: Sequence[Judged]) -> FittedGain | None:
    """Fit a regression to whether the device is right, another to whether the cloud is, and what they say together.

    They look at the same numbers under the same penalty, so that what both misjudge alike cancels out.

    Args:
        rows: Answers with tokens and a pooled state, right ones and wrong ones by the device and by the cloud.

    Returns:
        The scorer, or None where they foretell nothing.
    """
    states = [row.pooled for row in rows if row.pooled is not None]
    names = gain_names(len(states[0]))
    trust = np.where(np.arange(len(names) - 1 + len(states[0])) < len(names) - 1, 1.0, _TRUST)
    values = np.array([gain_values(row.evidence, state) for row, state in zip(rows, states, strict=True)])
    table = Table.of(names, values, trust=trust)
    losses = (np.array([row.loss for row in rows]), np.array([row.cloud_loss for row in rows]))
    foreseen = {strength: [table.foresee(one, strength=strength) for one in losses] for strength in _STRENGTHS}
    strength = min(
        foreseen, key=lambda strength: sum(surprise(*two).mean() for two in zip(foreseen[strength], losses, strict=True))
    )
    local, cloud = (1 / (1 + np.exp(-log_odds)) for log_odds in foreseen[strength])
    worth = local - _WEIGHT * np.maximum(local, cloud)
    # Platt 1999: one slope and one offset make of it a probability of the local answer to be right.
    folded = Table.of(("worth",), worth[:, np.newaxis]).logistic(losses[0], strength=1.0).folded()
    if folded.slopes[0] <= 0:
        return None
    slope, bias = rounded(np.array([folded.slopes[0], folded.bias]))
    fitted = (table.logistic(one, strength=strength) for one in losses)
    return FittedGain(Gain(next(fitted), next(fitted), _WEIGHT, slope, bias), bias + slope * worth)

"""Gain: a confidence that puts first to hand over what the cloud would make better, not what is merely doubtful.

Post-hoc deferral (Jitkrittum et al. 2023, "When Does Confidence-Based Cascade Deferral Suffice?"; Gupta et al. 2024, "Language
Model Cascades"): handing over gains what the cloud is likelier to be right by. What both get wrong is not worth a request. Where
the cloud is no better, answers stay in the order of how likely they are to be right, so that a promise can still be kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.confidence.evidence import Evidence, Floats
from pocketseq.confidence.features import PLAIN_FEATURES, feature_values
from pocketseq.confidence.logistic import Logistic, log_sigmoid, sigmoid
from pocketseq.confidence.rules import Scorer

GAIN: Final = "learned_gain"
"""Name of the scorer of gain, whose numbers the calibration brings along."""
_PLAIN: Final = PLAIN_FEATURES[: PLAIN_FEATURES.index("gate")]
"""The gate comes last of them, and is left out: it is made of the state, which is looked at here."""


@dataclass(frozen=True, slots=True)
class Gain:
    """log-odds of the confidence = bias + slope · worth, with worth = P(device) − weight · max(P(device), P(cloud)).

    P is the probability to be right. The worth of an answer is ``1 − weight`` parts of that, less ``weight`` parts of what the
    cloud would add to it.
    """

    local: Logistic
    """Foresees whether the device is right, over ``gain_names``."""
    cloud: Logistic
    """Foresees over the same whether the cloud is: what both misjudge alike then cancels out."""
    weight: float
    """What the cloud counts, 0 to below 1."""
    slope: float
    """Makes the worth a probability of the local answer to be right, above 0."""
    bias: float
    """Log-odds where the worth is 0."""


def gain_names(d_model: int) -> tuple[str, ...]:
    """Names of what a scorer of gain looks at.

    Args:
        d_model: Width of the pooled state.
    """
    return (*_PLAIN, f"pooled:{d_model}")


def gain_scorer(gain: Gain) -> Scorer:
    """The scorer of a gain; its confidence is the probability to be right of answers of like worth, coarser than ``learned``."""
    local, cloud = _evaluator(gain.local), _evaluator(gain.cloud)

    def log_confidence(evidence: Evidence) -> float:
        if evidence.state is None or len(evidence.tokens) != len(evidence.logprobs):
            return math.nan
        values = feature_values(evidence)[: len(_PLAIN)]
        right, mended = sigmoid(local(values, evidence.state)), sigmoid(cloud(values, evidence.state))
        return log_sigmoid(gain.bias + gain.slope * (right - gain.weight * max(right, mended)))

    return Scorer(log_confidence, looks_at_state=True)


def gain_values(evidence: Evidence, state: Floats) -> NDArray[np.float64]:
    """What a scorer of gain looks at, in the order of ``gain_names``, float64 [names].

    Args:
        evidence: With at least one token.
        state: Pooled encoder state, float32 [d_model].
    """
    return np.array([*feature_values(evidence)[: len(_PLAIN)], *state])


def _evaluator(logistic: Logistic) -> Callable[[Sequence[float], Floats], float]:
    folded = logistic.folded()
    slopes, states, bias = folded.slopes[: len(_PLAIN)].tolist(), folded.slopes[len(_PLAIN) :].astype(np.float32), folded.bias
    return lambda values, state: sum(map(mul, slopes, values), bias) + float(states @ state)

"""Scoring: the scorer and the gate that are in force for a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import mul
from typing import TYPE_CHECKING, Final

from pocketseq.confidence.evidence import Evidence
from pocketseq.confidence.features import FEATURES, PLAIN_FEATURES, feature_values
from pocketseq.confidence.gain import GAIN, gain_names, gain_scorer
from pocketseq.confidence.gate import Gate, gate, gate_names
from pocketseq.confidence.logistic import Logistic, log_sigmoid
from pocketseq.confidence.rules import DEFAULT_SCORER, SCORERS, Scorer

if TYPE_CHECKING:
    from pocketseq.manifest import Calibration, Variant

LEARNED: Final = "learned"
"""Name of the scorer whose numbers the calibration brings along."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a model judges its answers."""

    scorer: Scorer = SCORERS[DEFAULT_SCORER]
    """Turns evidence into a confidence."""
    gate: Gate | None = None
    """Judges an input before it is decoded; None where no calibration brought one."""

    @classmethod
    def of(cls, calibration: Calibration | None) -> Scoring:
        """What a calibration brings; the default scorer where there is none."""
        if calibration is None:
            return cls()
        return cls(
            scorer=_scorer(calibration),
            gate=None if calibration.gate is None else gate(calibration.gate),
        )


def _scorer(calibration: Calibration) -> Scorer:
    if calibration.scorer == LEARNED and calibration.learned is not None:
        return learned_scorer(calibration.learned)
    if calibration.scorer == GAIN and calibration.gain is not None:
        return gain_scorer(calibration.gain)
    return SCORERS[calibration.scorer]


def learned_scorer(logistic: Logistic) -> Scorer:
    """The scorer of a logistic regression over features of ``FEATURES``: its confidence is the probability to be right."""
    looks_at_spread = not set(logistic.features) <= set(PLAIN_FEATURES)
    folded = logistic.folded()
    slope_of = dict(zip(logistic.features, folded.slopes.tolist(), strict=True))
    # For a few dozen numbers an array takes longer to make than they do to add.
    slopes = [slope_of.get(name, 0.0) for name in (FEATURES if looks_at_spread else PLAIN_FEATURES)]

    def log_confidence(evidence: Evidence) -> float:
        if len(evidence.tokens) != len(evidence.logprobs) or (looks_at_spread and not evidence.entropies):
            return math.nan
        return log_sigmoid(sum(map(mul, slopes, feature_values(evidence)), folded.bias))

    return Scorer(log_confidence, looks_at_spread=looks_at_spread, looks_at_gate="gate" in logistic.features)


def calibration_problem(variant: Variant, *, d_model: int) -> str | None:
    """Why a variant has no calibration that counts, in a sentence; None where it has one.

    Args:
        variant: The one in force.
        d_model: Width of the model's pooled state.
    """
    calibration = variant.calibration
    if calibration is None:
        return f"expected a calibration of {variant.label}, found none; make one with: pocketseq calibrate BUNDLE --data ROWS.jsonl"
    if calibration.variant != variant.hash:
        return (
            f"expected a calibration of {variant.label} with the hash {variant.hash}, found one of {calibration.variant}: "
            "it was made on other files and promises nothing about these; calibrate again"
        )
    if problem := _scoring_problem(calibration, d_model=d_model):
        return f"expected {problem}; upgrade pocketseq, or calibrate again"
    return None


def _scoring_problem(calibration: Calibration, *, d_model: int) -> str | None:
    """Why this version cannot score as a calibration says, in a few words; None where it can."""
    names = gate_names(d_model)
    if calibration.gate is not None and calibration.gate.features != names:
        return f"a gate over {' and '.join(names)}, found one over {' and '.join(calibration.gate.features)}"
    if calibration.scorer == GAIN:
        return _gain_problem(calibration, gain_names(d_model))
    if calibration.scorer != LEARNED:
        known = sorted([*SCORERS, LEARNED, GAIN])
        return None if calibration.scorer in SCORERS else f"a scorer among {known}, found {calibration.scorer!r}"
    if calibration.learned is None:
        return "the numbers of its learned scorer, found none"
    unknown = sorted(set(calibration.learned.features) - set(FEATURES))
    return f"features of the learned scorer among {list(FEATURES)}, found also {unknown}" if unknown else None


def _gain_problem(calibration: Calibration, names: tuple[str, ...]) -> str | None:
    if calibration.gain is None:
        return "the numbers of its scorer of gain, found none"
    found = {calibration.gain.local.features, calibration.gain.cloud.features} - {names}
    return f"a scorer of gain over {list(names)}, found one over {[*found.pop()]}" if found else None

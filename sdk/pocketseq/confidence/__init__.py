"""Confidence: how sure a model is of an answer, as one number in 0 to 1, and how hopeful before it answers at all."""

from pocketseq.confidence.evidence import Evidence, spread_of
from pocketseq.confidence.features import FEATURES, PLAIN_FEATURES, features
from pocketseq.confidence.gain import GAIN, Gain, gain_names, gain_scorer, gain_values
from pocketseq.confidence.gate import Gate, gate, gate_names, gate_values
from pocketseq.confidence.logistic import Logistic, log_sigmoid, sigmoid
from pocketseq.confidence.rules import DEFAULT_SCORER, SCORERS, Scorer, chow_quantile, confidence
from pocketseq.confidence.scoring import LEARNED, Scoring, calibration_problem, learned_scorer

__all__ = [
    "DEFAULT_SCORER",
    "FEATURES",
    "GAIN",
    "LEARNED",
    "PLAIN_FEATURES",
    "SCORERS",
    "Evidence",
    "Gain",
    "Gate",
    "Logistic",
    "Scorer",
    "Scoring",
    "calibration_problem",
    "chow_quantile",
    "confidence",
    "features",
    "gain_names",
    "gain_scorer",
    "gain_values",
    "gate",
    "gate_names",
    "gate_values",
    "learned_scorer",
    "log_sigmoid",
    "sigmoid",
    "spread_of",
]

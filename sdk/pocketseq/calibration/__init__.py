"""Calibration: from answers whose loss is known to a threshold of confidence with a finite-sample promise."""

from pocketseq.calibration.answers import read_answers
from pocketseq.calibration.calibrated import Calibrated
from pocketseq.calibration.calibrating import Promise, calibrate, calibrate_answers, calibrate_parts
from pocketseq.calibration.fitting import can_fit
from pocketseq.calibration.judging import Judged, judge
from pocketseq.calibration.losses import Loss
from pocketseq.calibration.measures import auroc

__all__ = [
    "Calibrated",
    "Judged",
    "Loss",
    "Promise",
    "auroc",
    "calibrate",
    "calibrate_answers",
    "calibrate_parts",
    "can_fit",
    "judge",
    "read_answers",
]

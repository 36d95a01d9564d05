"""Logistic regression as a bundle carries it: fitted elsewhere, evaluated with numpy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketseq.errors import BundleFormatError


@dataclass(frozen=True, slots=True)
class Folded:
    """log-odds = bias + Σ slope · feature."""

    slopes: NDArray[np.float64]
    """float64 [features]."""
    bias: float


@dataclass(frozen=True, slots=True)
class Logistic:
    """log-odds = bias + Σ weight · (feature − mean) / scale."""

    features: tuple[str, ...]
    """Names in the order of the numbers below; a name such as ``pooled:256`` stands for so many."""
    mean: tuple[float, ...]
    """Mean of each feature where it was fitted."""
    scale: tuple[float, ...]
    """Standard deviation of each there."""
    weights: tuple[float, ...]
    """Weight of each, once standardised."""
    bias: float
    """Log-odds at the mean."""

    def __post_init__(self) -> None:
        try:
            width = sum(int(count or 1) for _, _, count in (name.partition(":") for name in self.features))
        except ValueError:
            raise BundleFormatError(
                f"learned scorer: expected features with a number behind a colon, such as pooled:256, found {list(self.features)}; "
                "calibrate again"
            ) from None
        lengths = {len(self.mean), len(self.scale), len(self.weights)}
        if lengths != {width} or not all(scale > 0 for scale in self.scale):
            raise BundleFormatError(
                f"learned scorer: expected {width} means, scales above 0 and weights, found {len(self.mean)}, {len(self.scale)} "
                f"and {len(self.weights)}; calibrate again"
            )

    def folded(self) -> Folded:
        """The same with the standardisation worked into its numbers."""
        slopes = np.asarray(self.weights) / np.asarray(self.scale)
        return Folded(slopes, self.bias - float(slopes @ np.asarray(self.mean)))


def log_sigmoid(log_odds: float) -> float:
    """Logarithm of the probability that has these log-odds."""
    return -math.log1p(math.exp(-log_odds)) if log_odds > -30 else log_odds


def sigmoid(log_odds: float) -> float:
    """Probability that has these log-odds."""
    return math.exp(log_sigmoid(log_odds))

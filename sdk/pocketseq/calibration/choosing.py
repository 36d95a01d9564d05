"""Choosing a scorer: the one that gains most by deferring, unless that is noise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from pocketseq.calibration.measures import Array, deferral_area, resamplings
from pocketseq.confidence import GAIN, LEARNED, SCORERS

PREFERENCE: Final = (LEARNED, GAIN, *SCORERS)
"""Which scorer is believed in before any row is seen: what is learnt, whose confidence is a probability (of being right before
that of gain), then the rules in their order. Those that look at whole distributions come last: they take time at every token."""
_RESAMPLINGS: Final = 300


@dataclass(frozen=True, slots=True)
class Choice:
    """A scorer among others."""

    scorer: str
    """The one to use."""
    areas: Mapping[str, float]
    """Area of each one's deferral curve over chance."""


def choose_scorer(confidences: Mapping[str, Array], gains: Array, *, seed: int, without: Collection[str] = ()) -> Choice:
    """Take the first scorer of ``PREFERENCE`` that falls behind the best by no more than one standard error of their difference.

    The one-standard-error rule (Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3), with the error from a
    paired bootstrap: the best of many is often so by chance, and on other rows it is not.

    Args:
        confidences: By scorer, float64 [rows] each; of one that was fitted, on rows that it had not seen.
        gains: Loss of the local answer less that of the cloud's, float64 [rows].
        seed: Seed of the bootstrap.
        without: Scorers whose area is told, and which are not taken.
    """
    areas = {name: float(deferral_area(scores, gains)) for name, scores in confidences.items()}
    eligible = [name for name in sorted(areas, key=PREFERENCE.index) if name not in without]
    best = max(eligible, key=lambda name: areas[name])
    weights = resamplings(len(gains), seed=seed, count=_RESAMPLINGS)
    resampled = deferral_area(confidences[best], gains, weights)
    for name in eligible:
        error = float(np.std(resampled - deferral_area(confidences[name], gains, weights)))
        if areas[best] - areas[name] <= error:
            return Choice(name, areas)
    raise AssertionError("the best falls behind itself by nothing")

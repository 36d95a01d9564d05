"""What calibrating came to: the calibration, and all that it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketseq.calibration.judging import Judged
from pocketseq.confidence import GAIN, LEARNED, Scorer, confidence
from pocketseq.manifest import Calibration


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration, and all that it was made of."""

    calibration: Calibration
    """What goes into the manifest; with a threshold that serves nothing where no candidate keeps the promise."""
    scorers: Mapping[str, Scorer]
    """All that were compared, what is learnt last where there is any."""
    areas: Mapping[str, float]
    """Area of each one's deferral curve over chance, on the rows that chose."""
    coverages: Mapping[str, float]
    """Share of the rows that tested which each would serve under the promise, which is given for the chosen one only: what the
    choice costs."""
    chosen: Sequence[Judged]
    """Rows that chose, and fitted what is learnt; each with what a gate says of it that was not fitted on it."""
    tested: Sequence[Judged]
    """Rows that tested, with what the gate said of each."""
    helped: int
    """Rows that the models had learnt from, and that helped to fit what is learnt; 0 where it foresees better without them."""
    smallest_risk: float | None
    """The smallest risk that could have been promised, where this one could not; None where it could, or none can."""
    smallest_coverage: float | None
    """Share of the rows that would be served then."""

    @property
    def base_risk(self) -> float:
        """Mean loss were everything served."""
        return float(np.mean(losses_of(self.tested)))

    @property
    def largest_coverage(self) -> float:
        """Share that could be served at this risk if the confidence were perfect."""
        risk = self.calibration.risk
        return 1.0 if self.calibration.guarantee == "conformal" else min(1.0, (1 - self.base_risk) / (1 - risk))

    def price(self) -> str | None:
        """What the scorer of gain costs of what can be served, in a sentence; None where another was chosen."""
        if self.calibration.scorer != GAIN:
            return None
        gained, plain = self.areas[GAIN], self.areas[LEARNED]
        more = f", {gained / plain - 1:+.0%} beside {LEARNED}" if plain > 0 else ""
        return (
            f"{GAIN} was chosen for what handing over to this cloud gains{more}; under the same promise {LEARNED} would serve "
            f"{self.coverages[LEARNED]:.1%} instead of {self.coverages[GAIN]:.1%}"
        )

    def refusal(self) -> str | None:
        """Why the promise cannot be given, and which one can, in a sentence; None where it can."""
        calibration = self.calibration
        if calibration.feasible:
            return None
        found = (
            f"expected a threshold that keeps the risk at {calibration.risk:.1%} with probability {1 - calibration.delta:.0%}, "
            f"found none on {calibration.n} rows (base risk {self.base_risk:.1%}, scorer {calibration.scorer})"
        )
        if self.smallest_risk is None:
            return f"{found}, nor for any other risk; give more rows, or a better model"
        return (
            f"{found}; the smallest risk that these rows can show is {self.smallest_risk:.1%}, "
            f"at which {self.smallest_coverage:.1%} of suggestions would be served; allow it, or give more rows or a better model"
        )


def confidences_of(answers: Sequence[Judged], scorer: Scorer) -> NDArray[np.float64]:
    """Confidence of each answer, float64 [rows]; one without any is the last to be served."""
    scores = (confidence(answer.evidence, scorer) for answer in answers)
    return np.array([0.0 if score is None else score for score in scores])


def losses_of(answers: Sequence[Judged]) -> NDArray[np.float64]:
    """Loss of each answer, float64 [rows]."""
    return np.array([answer.loss for answer in answers])

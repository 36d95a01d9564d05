"""Logistic regression with scikit-learn, over standardised numbers, every row also foreseen by a fit without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.confidence import Logistic

_FOLDS: Final = 5


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers to foresee losses from."""

    names: tuple[str, ...]
    """Of the columns, as a ``Logistic`` carries them."""
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    """By which each column is divided: its standard deviation, or more where it is to be trusted less."""
    rows: NDArray[np.float64]
    """Standardised, float64 [rows, columns]."""

    @classmethod
    def of(cls, names: tuple[str, ...], rows: NDArray[np.float64], *, trust: NDArray[np.float64] | float = 1.0) -> Table:
        """Standardise numbers.

        Args:
            names: Of the columns.
            rows: float64 [rows, columns].
            trust: What a column is multiplied by once standardised, so that the penalty holds it less or more: float64 [columns].
        """
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(spread > 1e-9, spread, 1.0) / trust
        return cls(names, mean, scale, (rows - mean) / scale)

    def foresee(self, losses: NDArray[np.float64], *, strength: float) -> NDArray[np.float64]:
        """Log-odds of each row to be right by a regression that did not see it, float64 [rows].

        Args:
            losses: float64 [rows], 0 to 1.
            strength: Inverse strength of the L2 penalty.
        """
        fold = np.arange(len(self.rows)) % _FOLDS
        foreseen = np.empty(len(self.rows))
        for number in range(_FOLDS):
            held = fold == number
            foreseen[held] = _fit(self.rows[~held], losses[~held], strength).decision_function(self.rows[held])
        return foreseen

    def logistic(self, losses: NDArray[np.float64], *, strength: float) -> Logistic:
        """The regression over all rows; arguments as ``foresee``."""
        regression = _fit(self.rows, losses, strength)
        return Logistic(
            features=self.names,
            mean=rounded(self.mean),
            scale=rounded(self.scale),
            weights=rounded(regression.coef_[0]),
            bias=rounded(regression.intercept_)[0],
        )


def surprise(log_odds: NDArray[np.float64], losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cross-entropy of what was foreseen with what came, in degrees too: float64 [rows]."""
    return np.logaddexp(0, log_odds) - (1 - losses) * log_odds


def rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Six significant digits are more than the rows can tell, and keep the manifest short."""
    return tuple(float(f"{value:.6g}") for value in values)


def _fit(rows: NDArray[np.float64], losses: NDArray[np.float64], strength: float) -> Any:
    """Logistic regression of 1 − loss; a loss between 0 and 1 counts as so much wrong and the rest right."""
    from sklearn.linear_model import LogisticRegression

    right, wrong = losses < 1, losses > 0
    return LogisticRegression(C=strength, max_iter=1000).fit(
        np.concatenate([rows[right], rows[wrong]]),
        np.repeat([1, 0], [right.sum(), wrong.sum()]),
        sample_weight=np.concatenate([1 - losses[right], losses[wrong]]),
    )

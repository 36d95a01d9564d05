"""The risk–coverage curve: how wrong the local answers are when only the surest share of them is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Risk among the answers served, for every share served, surest first."""

    coverage: tuple[float, ...]
    """Share of rows served, rising to 1; one entry for each distinct confidence."""
    risk: tuple[float, ...]
    """Share of wrong answers among those served."""
    oracle_risk: tuple[float, ...]
    """The same had the confidence put every right answer before every wrong one."""
    base_risk: float
    """Share of wrong answers when all are served, which is also what a coin would have at any coverage."""

    def at(self, coverage: float) -> float:
        """Risk at the greatest coverage that is not above the one given; 0 where nothing is served."""
        served = [risk for share, risk in zip(self.coverage, self.risk, strict=True) if share <= coverage + 1e-9]
        return served[-1] if served else 0.0


def risk_coverage(confidences: Sequence[float], correct: Sequence[bool]) -> RiskCoverage:
    """Compute the curve.

    Args:
        confidences: One for each row, greater is surer; at least one row.
        correct: Whether the row's answer is right.
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    sorted_confidences = np.asarray(confidences)[order]
    wrong = ~np.asarray(correct, dtype=bool)
    served = np.arange(1, len(order) + 1)
    risk = np.cumsum(wrong[order]) / served
    oracle = np.maximum(0, served - (~wrong).sum()) / served
    # Rows of one confidence are served together or not at all.
    last = np.append(sorted_confidences[1:] != sorted_confidences[:-1], True)
    return RiskCoverage(
        coverage=tuple((served[last] / len(order)).tolist()),
        risk=tuple(risk[last].tolist()),
        oracle_risk=tuple(oracle[last].tolist()),
        base_risk=float(wrong.mean()),
    )

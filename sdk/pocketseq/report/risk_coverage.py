"""The risk–coverage curve: how wrong the local answers are when only the surest share of them is served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pocketseq.report.drawing import Scale, area, dot, line, path, picture, round_steps, text
from pocketseq.report.figures import share

WIDTH: Final = 560
HEIGHT: Final = 320
_LABEL: Final = 15
"""Height of a line of words."""


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


def risk_coverage(confidences: Sequence[float], correct: Sequence[float]) -> RiskCoverage:
    """Compute the curve.

    Args:
        confidences: One for each row, greater is surer; at least one row.
        correct: Whether the row's answer is right, or 1 less what is lost by it.
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    sorted_confidences = np.asarray(confidences)[order]
    wrong = 1 - np.asarray(correct, dtype=np.float64)
    served = np.arange(1, len(order) + 1)
    risk = np.cumsum(wrong[order]) / served
    oracle = np.cumsum(np.sort(wrong)) / served
    # Rows of one confidence are served together or not at all.
    last = np.append(sorted_confidences[1:] != sorted_confidences[:-1], True)
    return RiskCoverage(
        coverage=tuple((served[last] / len(order)).tolist()),
        risk=tuple(risk[last].tolist()),
        oracle_risk=tuple(oracle[last].tolist()),
        base_risk=float(wrong.mean()),
    )


@dataclass(frozen=True, slots=True)
class Band:
    """Where the curve lies in 95 of 100 resamplings."""

    coverage: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def curve_plot(
    curve: RiskCoverage,
    title: str,
    *,
    risk: float | None = None,
    served: float = 0.0,
    band: Band | None = None,
    lost: str = "wrong",
) -> str:
    """Draw what is lost among the answers served locally, for every share served.

    Args:
        curve: What is drawn, with the perfect order and with everything served beside it.
        title: For those who cannot see it.
        risk: The risk that is promised; None draws no promise.
        served: Share that the threshold serves, marked where it is above 0.
        band: How far the curve may be off.
        lost: What an answer loses, in a word.
    """
    highest = max(*curve.risk, curve.base_risk, risk or 0.0, 0.02)
    ticks = round_steps(min(highest * 1.08, 1.0), at_most=5)
    x = Scale(0, 1, 44, WIDTH - 22)
    y = Scale(0, ticks[-1], HEIGHT - 46, 18)
    shapes = [line(x(0), y(tick), x(1), y(tick), "grid") for tick in ticks]
    shapes += [text(x(0) - 8, y(tick) + 4, f"{100 * tick:g}%", "tick end") for tick in ticks]
    shapes += [text(x(tick / 4), y(0) + 18, f"{25 * tick}%", "tick middle") for tick in range(5)]
    shapes.append(text(x(0.5), HEIGHT - 8, "coverage: share of suggestions answered on the device", "label middle"))
    if band is not None:
        upper = [(x(place), y(min(high, ticks[-1]))) for place, high in zip(band.coverage, band.high, strict=True)]
        lower = [(x(place), y(low)) for place, low in zip(band.coverage, band.low, strict=True)]
        shapes.append(area([*upper, *reversed(lower)], "band"))
    shapes.append(line(x(0), y(curve.base_risk), x(1), y(curve.base_risk), "series chance"))
    shapes.append(path(zip(map(x, (0.0, *curve.coverage)), map(y, (0.0, *curve.oracle_risk)), strict=True), "series oracle"))
    shapes.append(path(zip(map(x, curve.coverage), map(y, curve.risk), strict=True), "series student"))
    if risk is not None:
        shapes.append(line(x(0), y(risk), x(1), y(risk), "series promise"))
    levels = [(curve.base_risk, f"all served: {share(curve.base_risk)} {lost}")]
    levels += [] if risk is None else [(risk, f"promised: at most {share(risk)}")]
    levels.sort(reverse=True)
    for level, words in levels:
        # Of two lines too near for both labels, the lower one has its own below.
        below = (level, words) != levels[0] and y(level) - y(levels[0][0]) < _LABEL
        shapes.append(text(x(0) + 6, y(level) + (_LABEL if below else -6), words, "label start"))
    if served > 0:
        risk_served = curve.at(served)
        shapes.append(dot(x(served), y(risk_served), "mark student"))
        # Below and to the right, where the curve does not go.
        place, drop, side = (x(1), 34, "end") if served > 0.65 else (x(served) + 10, 18, "start")
        if y(risk_served) + drop + 6 > y(0):  # no room above the axis: over the curve's flat beginning
            place, drop, side = (x(served) - 10, -12, "end") if served > 0.35 else (x(served) + 10, -12, "start")
        shapes.append(text(place, y(risk_served) + drop, f"{share(served)} served, {share(risk_served)} {lost}", f"strong {side}"))
    return picture(WIDTH, HEIGHT, title, shapes)

"""The plots of a calibration's page: reliability, and how much each scorer gains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from pocketseq.calibration.measures import Array, Interval, Reliability
from pocketseq.report.drawing import Scale, dot, line, path, picture, round_steps, text
from pocketseq.report.risk_coverage import Band

WIDTH: Final = 560
HEIGHT: Final = 320
_PLACES: Final = 80
_LEAST_SERVED: Final = 0.02
"""A share below which a band says nothing but that a handful of answers can be anything."""


def risk_band(confidences: Array, losses: Array, weights: Array) -> Band:
    """Where the risk among the surest answers lies in 95 of 100 resamplings.

    Args:
        confidences: float64 [rows].
        losses: float64 [rows].
        weights: What ``resamplings`` gave, float64 [resamplings, rows].
    """
    order = np.argsort(-confidences, kind="stable")
    rows = order.size
    places = np.unique(np.linspace(max(_LEAST_SERVED * rows, 1), rows, _PLACES).astype(int) - 1)
    counted = weights[:, order]
    risks = np.cumsum(counted * losses[order], axis=1)[:, places] / np.maximum(np.cumsum(counted, axis=1)[:, places], 1)
    low, high = np.percentile(risks, (2.5, 97.5), axis=0)
    return Band(tuple(((places + 1) / rows).tolist()), tuple(low.tolist()), tuple(high.tolist()))


def reliability_plot(found: Reliability) -> str:
    """How many are right among answers of like confidence, and the range in which chance alone could have put it."""
    x, y = Scale(0, 1, 44, WIDTH - 22), Scale(0, 1, HEIGHT - 46, 18)
    shapes = [line(x(0), y(tick / 4), x(1), y(tick / 4), "grid") for tick in range(5)]
    shapes += [text(x(0) - 8, y(tick / 4) + 4, f"{25 * tick}%", "tick end") for tick in range(5)]
    shapes += [text(x(tick / 4), y(0) + 18, f"{25 * tick}%", "tick middle") for tick in range(5)]
    shapes.append(text(x(0.5), HEIGHT - 8, "confidence", "label middle"))
    shapes.append(line(x(0), y(0), x(1), y(1), "series chance"))
    points = list(zip(found.confidence, found.right, found.rows, strict=True))
    for confidence, right, rows in points:
        low, high = _wilson(right, rows)
        shapes.append(line(x(confidence), y(low), x(confidence), y(high), "range thin"))
    shapes.append(path([(x(confidence), y(right)) for confidence, right, _ in points], "series student"))
    shapes += [dot(x(confidence), y(right), "mark student") for confidence, right, _ in points]
    return picture(WIDTH, HEIGHT, "Share of right answers against confidence", shapes)


def gains_plot(gains: Mapping[str, Interval], chosen: str) -> str:
    """What each scorer gains over chance by deferring, the best first, with its bootstrap interval.

    Args:
        gains: Area over chance by scorer.
        chosen: The scorer in force.
    """
    ordered = sorted(gains.items(), key=lambda item: -item[1].value)
    height = 58 + 26 * len(ordered)
    ticks = round_steps(max(1e-3, *(gain.high for gain in gains.values())), at_most=5)
    lowest = min(0.0, *(gain.low for gain in gains.values()))
    x, bottom = Scale(lowest, ticks[-1], 150, WIDTH - 22), height - 46
    shapes = [line(x(tick), 10, x(tick), bottom, "grid") for tick in ticks]
    shapes += [text(x(tick), bottom + 18, f"{tick:g}", "tick middle") for tick in ticks]
    shapes.append(text(x(lowest + (ticks[-1] - lowest) / 2), height - 8, "area over chance", "label middle"))
    for number, (name, gain) in enumerate(ordered):
        kind = "student" if name == chosen else "teacher"
        centre = 24 + 26 * number
        shapes.append(text(138, centre + 4, name, "strong end" if name == chosen else "tick end"))
        shapes.append(line(x(gain.low), centre, x(gain.high), centre, f"range {kind}"))
        shapes.append(dot(x(gain.value), centre, f"mark {kind}"))
    return picture(WIDTH, height, "What each scorer gains by deferring", shapes)


def _wilson(share: float, rows: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927)."""
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * (share * (1 - share) / rows + z**2 / (4 * rows**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)

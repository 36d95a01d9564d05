"""Size against quality: which variants are worth shipping, and which are beaten by a smaller one that is no worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pocketseq.report.drawing import Scale, dot, line, path, picture, power_steps, round_steps, steps_between, text
from pocketseq.report.figures import share
from pocketseq_bench.report.labels import Labels

WIDTH: Final = 560
HEIGHT: Final = 340


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """One variant."""

    label: str
    """Name for people, such as ``onnx/int8``."""
    size_bytes: int
    """On disk."""
    quality: float
    """0 to 1, more is better."""
    kind: str = "student"
    """Class of the style sheet that colours it: a runtime's name, ``student`` or ``teacher``."""
    chosen: bool = False
    """Whether it is the one that ships; drawn with a ring."""


def pareto_front(points: Sequence[ParetoPoint]) -> tuple[ParetoPoint, ...]:
    """The points that no other beats: for each, all that are smaller are worse. Smallest first."""
    front: list[ParetoPoint] = []
    for point in sorted(points, key=lambda point: (point.size_bytes, -point.quality)):
        if not front or point.quality > front[-1].quality:
            front.append(point)
    return tuple(front)


def pareto_plot(points: Sequence[ParetoPoint], *, measure: str = "exact match", floor: float | None = None) -> str:
    """Draw size against quality, with a line through the variants that nothing beats.

    Args:
        points: The variants, at least one.
        measure: What the quality is, for the axis.
        floor: Least quality that is good enough, drawn as a line; None where nothing was promised.
    """
    sizes = [point.size_bytes / 1e6 for point in points]
    heights = [point.quality for point in points] + ([] if floor is None else [floor])
    logarithmic = max(sizes) > 12 * min(sizes)
    across = power_steps(min(sizes) * 0.9, max(sizes) * 1.1) if logarithmic else round_steps(max(sizes) * 1.12, at_most=6)
    margin = max(0.12 * (max(heights) - min(heights)), 0.01)
    up = steps_between(max(0.0, min(heights) - margin), min(1.0, max(heights) + margin), at_most=5)
    x = Scale(across[0], across[-1], 56, WIDTH - 18, logarithmic)
    y = Scale(up[0], up[-1], HEIGHT - 48, 14)
    bottom = y(up[0])
    shapes = [line(x.start, y(tick), x.stop, y(tick), "grid") for tick in up]
    shapes += [text(x.start - 8, y(tick) + 4, f"{100 * tick:g}%", "tick end") for tick in up]
    shapes += [text(x(tick), bottom + 18, f"{tick:g}", "tick middle") for tick in across]
    shapes.append(text((x.start + x.stop) / 2, HEIGHT - 8, f"megabytes on disk; upwards: {measure}", "label middle"))
    if floor is not None:
        shapes.append(line(x.start, y(floor), x.stop, y(floor), "series promise"))
        shapes.append(text(x.stop - 6, y(floor) - 6, f"at least {share(floor)}", "label end"))
    front = pareto_front(points)
    shapes.append(path([(x(point.size_bytes / 1e6), y(point.quality)) for point in front], "series front"))
    places = {point: (x(point.size_bytes / 1e6), y(point.quality)) for point in points}
    labels = Labels(list(places.values()), width=WIDTH, height=HEIGHT - 40)
    for point in sorted(points, key=lambda point: point not in front):
        if point.chosen:
            shapes.append(dot(*places[point], f"ring {point.kind}", radius=10))
        shapes.append(dot(*places[point], f"mark {point.kind}{'' if point in front else ' beaten'}", radius=6))
        shapes.append(labels.put(point.label, places[point], "strong" if point.chosen else "label"))
    return picture(WIDTH, HEIGHT, f"Size against {measure}", shapes)

"""Size against quality: which variants are worth shipping, and which are beaten by a smaller one that is no worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pocketseq.report.drawing import Scale, dot, line, path, picture, power_steps, round_steps, steps_between, text
from pocketseq.report.figures import share

WIDTH: Final = 560
HEIGHT: Final = 340
LETTER: Final = 7.2
"""Pixels that a letter of a label takes at most."""


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


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: _Box) -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


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
    taken = [_around(x(point.size_bytes / 1e6), y(point.quality)) for point in points]
    for point in sorted(points, key=lambda point: point not in front):
        place = x(point.size_bytes / 1e6), y(point.quality)
        if point.chosen:
            shapes.append(dot(*place, f"ring {point.kind}", radius=10))
        shapes.append(dot(*place, f"mark {point.kind}{'' if point in front else ' beaten'}", radius=6))
        label, box = _label(point, place, taken)
        shapes.append(label)
        taken.append(box)
    return picture(WIDTH, HEIGHT, f"Size against {measure}", shapes)


def _around(x: float, y: float) -> _Box:
    return _Box(x - 8, y - 8, x + 8, y + 8)


def _label(point: ParetoPoint, place: tuple[float, float], taken: Sequence[_Box]) -> tuple[str, _Box]:
    """The point's name where it covers least of what is there: right, left, above or below, then farther off."""
    x, y = place
    width = LETTER * len(point.label)
    tries = []
    for shift in (0, 16, 32):
        tries += [
            (x + 12, y + 4 - shift, "start", _Box(x + 12, y - 8 - shift, x + 12 + width, y + 8 - shift)),
            (x + 12, y + 4 + shift, "start", _Box(x + 12, y - 8 + shift, x + 12 + width, y + 8 + shift)),
            (x - 12, y + 4 - shift, "end", _Box(x - 12 - width, y - 8 - shift, x - 12, y + 8 - shift)),
            (x - 12, y + 4 + shift, "end", _Box(x - 12 - width, y - 8 + shift, x - 12, y + 8 + shift)),
            (x, y - 12 - shift, "middle", _Box(x - width / 2, y - 24 - shift, x + width / 2, y - 10 - shift)),
            (x, y + 24 + shift, "middle", _Box(x - width / 2, y + 10 + shift, x + width / 2, y + 26 + shift)),
        ]

    def cost(box: _Box) -> float:
        outside = max(0.0, 50 - box.left) + max(0.0, box.right - WIDTH) + max(0.0, 4 - box.top) + max(0.0, box.bottom - HEIGHT + 40)
        return 100 * outside + sum(box.overlap(other) for other in taken)

    at_x, at_y, side, box = min(tries, key=lambda each: cost(each[3]))
    return text(round(at_x, 2), round(at_y, 2), point.label, f"{'strong' if point.chosen else 'label'} {side}"), box

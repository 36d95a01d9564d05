"""The few SVG shapes that the plots are made of; colours come from the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to pixels."""

    low: float
    """Value at ``start``."""
    high: float
    """Value at ``stop``."""
    start: float
    """Pixel of ``low``."""
    stop: float
    """Pixel of ``high``."""
    logarithmic: bool = False
    """Equal factors take equal room; values must be above zero."""

    def __call__(self, value: float) -> float:
        """Pixel of a value."""
        low, high, value = (log10(number) if self.logarithmic else number for number in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.stop - self.start), 2)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def text(x: float, y: float, words: str, kind: str) -> str:
    """A label; ``kind`` decides on which side of the point it stands."""
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'


def dot(x: float, y: float, kind: str, *, radius: float = 5) -> str:
    """A filled circle."""
    return f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}"/>'


def path(points: Iterable[tuple[float, float]], kind: str) -> str:
    """A line through points."""
    return f'<path class="{kind}" d="M{" L".join(f"{x},{y}" for x, y in points)}"/>'


def area(points: Iterable[tuple[float, float]], kind: str) -> str:
    """A filled shape with these corners."""
    return f'<path class="{kind}" d="M{" L".join(f"{x},{y}" for x, y in points)} Z"/>'


def picture(width: int, height: int, title: str, shapes: Sequence[str]) -> str:
    """An SVG of these shapes, with a title for those who cannot see it."""
    body = "\n".join(shapes)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}">\n{body}\n</svg>'


def round_steps(high: float, *, at_most: int) -> list[float]:
    """Ticks from 0 up to or past a value, in steps of 1, 2 or 5 times a power of ten."""
    exponent = -6
    while True:
        for mantissa in (1, 2, 5):
            step = mantissa * 10.0**exponent
            count = -int(-high // step)
            if count <= at_most:
                return [round(index * step, 9) for index in range(max(count, 1) + 1)]
        exponent += 1


def steps_between(low: float, high: float, *, at_most: int) -> list[float]:
    """Ticks around a range that need not start at 0, in steps of 1, 2 or 5 times a power of ten."""
    step = round_steps(max(high - low, 1e-6), at_most=at_most)[1]
    first, last = floor(low / step), -floor(-high / step)
    return [round(index * step, 9) for index in range(first, max(last, first + 1) + 1)]


def power_steps(low: float, high: float) -> list[float]:
    """Ticks at 1, 3 and 10 times powers of ten around a range; for logarithmic scales."""
    ticks = [factor * 10.0**exponent for exponent in range(-3, 7) for factor in (1, 3)]
    first = max(index for index, tick in enumerate(ticks) if tick <= max(low, ticks[0]))
    last = min(index for index, tick in enumerate(ticks) if tick >= min(high, ticks[-1]))
    return ticks[first : max(last, first + 1) + 1]

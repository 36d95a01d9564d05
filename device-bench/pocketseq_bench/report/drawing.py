"""The few SVG shapes that the plots are made of; colours come from the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10


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

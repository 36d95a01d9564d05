"""Names of points in a plot, each where it covers least of what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pocketseq.report.drawing import text

LETTER: Final = 7.2
"""Pixels that a letter of a label takes at most."""
_SHIFTS: Final = (0, 16, 32)
"""How far a label may be moved off, by its height."""


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


class Labels:
    """The places that labels of one plot have left for each other."""

    def __init__(self, points: Sequence[tuple[float, float]], *, width: float, height: float, beside: bool = True) -> None:
        """Keep the points themselves free.

        Args:
            points: Where they are, in pixels.
            width: Of the plot, in pixels.
            height: Likewise, down to the axis.
            beside: Whether a label may stand left or right of its point, where a line through the points would cross it.
        """
        self._taken = [_Box(x - 8, y - 8, x + 8, y + 8) for x, y in points]
        self._width, self._height, self._beside = width, height, beside

    def put(self, words: str, point: tuple[float, float], style: str = "label") -> str:
        """Write a name beside its point, above or below, then farther off; what is written is kept free from then on."""
        x, y = point
        width = LETTER * len(words)
        tries = []
        for shift in _SHIFTS:
            if self._beside:
                tries += [
                    (x + 12, y + 4 - shift, "start", _Box(x + 12, y - 8 - shift, x + 12 + width, y + 8 - shift)),
                    (x + 12, y + 4 + shift, "start", _Box(x + 12, y - 8 + shift, x + 12 + width, y + 8 + shift)),
                    (x - 12, y + 4 - shift, "end", _Box(x - 12 - width, y - 8 - shift, x - 12, y + 8 - shift)),
                    (x - 12, y + 4 + shift, "end", _Box(x - 12 - width, y - 8 + shift, x - 12, y + 8 + shift)),
                ]
            tries += [
                (x, y - 12 - shift, "middle", _Box(x - width / 2, y - 24 - shift, x + width / 2, y - 10 - shift)),
                (x, y + 24 + shift, "middle", _Box(x - width / 2, y + 10 + shift, x + width / 2, y + 26 + shift)),
            ]
        at_x, at_y, side, box = min(tries, key=lambda each: self._cost(each[3]))
        self._taken.append(box)
        return text(round(at_x, 2), round(at_y, 2), words, f"{style} {side}")

    def _cost(self, box: _Box) -> float:
        across = max(0.0, 50 - box.left) + max(0.0, box.right - self._width)
        down = max(0.0, 4 - box.top) + max(0.0, box.bottom - self._height)
        return 100 * (across + down) + sum(box.overlap(other) for other in self._taken)

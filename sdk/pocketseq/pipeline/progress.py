"""A line of progress for work that takes longer than a person likes to wait in the dark."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Counts done pieces of work on standard error: one line that is rewritten on a terminal, now and then a new one elsewhere."""

    def __init__(self, label: str, total: int, *, stream: TextIO | None = None, interval_s: float | None = None) -> None:
        """Start counting.

        Args:
            label: What is being done.
            total: Pieces in all.
            stream: Where the line goes; None is standard error.
            interval_s: Shortest time between two lines; None is 0.2 s on a terminal and 15 s elsewhere.
        """
        self._label = label
        self._total = total
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval_s = interval_s if interval_s is not None else (0.2 if self._terminal else 15.0)
        self._begun = self._shown = time.monotonic()

    def __call__(self, done: int) -> None:
        """Tell how many pieces are done."""
        now = time.monotonic()
        finished = done >= self._total
        if not finished and now - self._shown < self._interval_s:
            return
        self._shown = now
        left_s = (now - self._begun) / max(done, 1) * (self._total - done)
        words = f"  {self._label}: {done}/{self._total}" + ("" if finished else f", about {left_s:.0f} s left")
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{words}" + ("\n" if finished else ""))
        else:
            self._stream.write(words + "\n")
        self._stream.flush()

"""One deadline for everything that an answer takes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, which no change of the wall clock moves."""

    started_s: float
    """Monotonic time of the call."""
    at_s: float
    """Monotonic time at which an answer is of no more use; infinite where there is no bound."""

    @classmethod
    def after(cls, limit_ms: float | None) -> Self:
        """A deadline so many milliseconds from now; None sets none."""
        now = time.monotonic()
        return cls(now, math.inf if limit_ms is None else now + limit_ms / 1000)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, 0 or less when it has passed; None where there is no bound."""
        return None if math.isinf(self.at_s) else self.at_s - time.monotonic()

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.at_s

    def allows(self, seconds: float) -> bool:
        """Whether so much time is left, and some more."""
        return time.monotonic() + seconds < self.at_s

    def elapsed_ms(self) -> float:
        """Milliseconds since the call."""
        return (time.monotonic() - self.started_s) * 1000

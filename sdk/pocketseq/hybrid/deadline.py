"""One deadline for everything that an answer takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, which no change of the wall clock moves."""

    started_s: float
    """Monotonic time of the call."""
    at_s: float
    """Monotonic time at which an answer is of no more use; infinite where there is no bound."""
    clock: Callable[[], float] = time.monotonic
    """Monotonic seconds."""

    @classmethod
    def after(cls, limit_ms: float | None, *, clock: Callable[[], float] = time.monotonic) -> Self:
        """A deadline so many milliseconds from now; None sets none."""
        now = clock()
        return cls(now, math.inf if limit_ms is None else now + limit_ms / 1000, clock)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, 0 or less when it has passed; None where there is no bound."""
        return None if math.isinf(self.at_s) else self.at_s - self.clock()

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.clock() >= self.at_s

    def allows(self, seconds: float) -> bool:
        """Whether so much time is left, and some more."""
        return self.clock() + seconds < self.at_s

    def elapsed_ms(self) -> float:
        """Milliseconds since the call."""
        return (self.clock() - self.started_s) * 1000

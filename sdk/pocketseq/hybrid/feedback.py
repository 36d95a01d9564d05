"""What users made of suggestions."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pocketseq.suggestion import Source

Outcome: TypeAlias = Literal["accepted", "edited", "dismissed"]
"""Taken as it was, taken and changed, or not taken."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How suggestions of one source fared, as far as the application told."""

    accepted: int = 0
    """Taken as they were."""
    edited: int = 0
    """Taken and changed."""
    dismissed: int = 0
    """Not taken."""

    @property
    def rate(self) -> float | None:
        """Share that was taken, changed or not; None before the first word."""
        told = self.accepted + self.edited + self.dismissed
        return (self.accepted + self.edited) / told if told else None


class Feedback:
    """Counts by source; safe to share between threads."""

    def __init__(self) -> None:
        """Start at zero."""
        self._counts: Counter[tuple[Source, Outcome]] = Counter()
        self._lock = threading.Lock()

    def add(self, source: Source, outcome: Outcome) -> None:
        """Count one word."""
        with self._lock:
            self._counts[source, outcome] += 1

    def acceptance(self, source: Source | None = None) -> Acceptance:
        """What was counted for one source, or for all."""
        with self._lock:
            counts = Counter[Outcome]()
            for (of, outcome), count in self._counts.items():
                if source in {None, of}:
                    counts[outcome] += count
        return Acceptance(counts["accepted"], counts["edited"], counts["dismissed"])

"""What else the machine did meanwhile: time of other programs, and time that a hypervisor took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pocketseq_bench.device.processes import WITHOUT_PSUTIL, psutil_or_none
from pocketseq_bench.row import Reading


@dataclass(slots=True)
class LoadMeter:
    """Counts from where it was made."""

    _psutil: Any = None
    _from: Any = None
    _began: float = 0.0

    def __post_init__(self) -> None:
        """Begin to count."""
        self._psutil = psutil_or_none()
        self._began = time.monotonic()
        self._from = self._psutil.cpu_times() if self._psutil else None

    def steal(self) -> Reading:
        """Share of all processors' time that the hypervisor gave to others."""
        if self._from is None:
            return Reading(None, WITHOUT_PSUTIL)
        now = self._psutil.cpu_times()
        if not hasattr(now, "steal"):
            return Reading(None, "this system does not tell stolen time")
        total = sum(now) - sum(self._from)
        return Reading(max(0.0, (now.steal - self._from.steal) / total) if total > 0 else 0.0)

    def others(self, own_s: float) -> Reading:
        """Share of all processors' time that other programs used.

        Args:
            own_s: Processor time of the measurement itself since then, children included.
        """
        if self._from is None:
            return Reading(None, WITHOUT_PSUTIL)
        now = self._psutil.cpu_times()
        total = sum(now) - sum(self._from)
        # Guests are counted twice, in user time and by themselves.
        total -= self._since(now, "guest", "guest_nice")
        if total <= 0:
            return Reading(0.0)
        # What was stolen no program of this machine had.
        return Reading(max(0.0, (total - self._since(now, "idle", "iowait", "steal") - own_s) / total))

    def _since(self, now: Any, *names: str) -> float:
        """Seconds of these kinds, as far as the system tells them apart."""
        return sum(getattr(now, name, 0.0) - getattr(self._from, name, 0.0) for name in names)

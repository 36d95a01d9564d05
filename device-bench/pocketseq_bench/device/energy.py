"""Energy, where a counter or a discharging battery can be read without privileges."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from pocketseq_bench.row import Reading


@dataclass(slots=True)
class EnergyMeter:
    """Reads RAPL counters, or the power that a battery gives; adds up over the spans that it is switched on for."""

    root: Path = Path("/sys/class")
    """Where Linux keeps its sensors."""
    joules: float = 0.0
    """Energy of all spans together."""
    reason: str = ""
    """What is read, or why nothing can be."""
    _domains: list[Path] = field(default_factory=list)
    _battery: Path | None = None
    _from: list[int] = field(default_factory=list)
    _started: float = 0.0

    def __post_init__(self) -> None:
        """Look for something to read."""
        domains = [path for path in sorted(self.root.glob("powercap/intel-rapl:*/energy_uj")) if path.parent.name.count(":") == 1]
        self._domains = [path for path in domains if _number(path) is not None]
        batteries = self.root.glob("power_supply/BAT*")
        self._battery = next((path for path in sorted(batteries) if _discharging(path) and _watts(path) is not None), None)
        if self._domains:
            self.reason = "RAPL, whole package, idle power included"
        elif domains:
            self.reason = "the RAPL counters can only be read by root"
        elif self._battery is not None:
            self.reason = "power of the battery, whole device, screen and idle power included"
        else:
            self.reason = "no RAPL counters and no discharging battery found"

    @property
    def readable(self) -> bool:
        """Whether there is something to read."""
        return bool(self._domains) or self._battery is not None

    def start(self) -> None:
        """Begin a span."""
        self._started = time.perf_counter()
        self._from = [_number(path) or 0 for path in self._domains]

    def stop(self) -> None:
        """End a span and add what it took."""
        if self._domains:
            for path, first in zip(self._domains, self._from, strict=True):
                last = _number(path)
                if last is None:
                    continue
                wrap = _number(path.with_name("max_energy_range_uj")) or 0
                self.joules += (last - first if last >= first else last - first + wrap) / 1e6
        elif self._battery is not None:
            self.joules += (_watts(self._battery) or 0.0) * (time.perf_counter() - self._started)

    def per_item_mj(self, items: int) -> Reading:
        """Millijoules for each of so many things done in the spans."""
        return Reading(1000 * self.joules / items if self.readable and items else None, self.reason)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _discharging(battery: Path) -> bool:
    try:
        return (battery / "status").read_text(encoding="ascii").strip() == "Discharging"
    except OSError:
        return False


def _watts(battery: Path) -> float | None:
    power = _number(battery / "power_now")
    if power is not None:
        return power / 1e6
    current, voltage = _number(battery / "current_now"), _number(battery / "voltage_now")
    return None if current is None or voltage is None else current * voltage / 1e12

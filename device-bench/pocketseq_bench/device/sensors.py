"""How warm and how fast the machine is, as far as it tells, and waiting until it is as cool as before."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pocketseq_bench.device.processes import WITHOUT_PSUTIL, psutil_or_none
from pocketseq_bench.document import MachineState
from pocketseq_bench.row import Reading

_PROCESSOR_SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")


def machine_state() -> MachineState:
    """Read temperature and frequency now."""
    return MachineState(temperature_c=_temperature(), frequency_mhz=_frequency())


def cool_down(
    target_c: float | None, *, limit_s: float, read: Callable[[], Reading] | None = None, sleep: Callable[[float], Any] = time.sleep
) -> float:
    """Wait until the processor is at most 3 °C warmer than it was, or the time is up.

    Args:
        target_c: How warm it was; None, as no sensor tells, does not wait.
        limit_s: Seconds to wait at most.
        read: Reads the temperature.
        sleep: Waits some seconds.

    Returns:
        Seconds waited.
    """
    waited = 0.0
    if target_c is None:
        return waited
    while waited < limit_s:
        now = (read or _temperature)().value
        if now is None or now <= target_c + 3:
            break
        sleep(1.0)
        waited += 1.0
    return waited


def _temperature() -> Reading:
    psutil = psutil_or_none()
    if psutil is None:
        return _thermal_zones(WITHOUT_PSUTIL)
    if not hasattr(psutil, "sensors_temperatures"):
        return Reading(None, "this system tells no temperatures without privileges")
    try:
        found = psutil.sensors_temperatures()
    except OSError as error:
        return Reading(None, f"the sensors cannot be read: {error}")
    for name in [*(name for name in _PROCESSOR_SENSORS if name in found), *found]:
        values = [sensor.current for sensor in found[name] if sensor.current]
        if values:
            return Reading(max(values), f"sensor {name}")
    return _thermal_zones("no temperature sensor found")


def _thermal_zones(otherwise: str) -> Reading:
    values = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            values.append(int(zone.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):
            continue
    return Reading(max(values), "thermal zones") if values else Reading(None, otherwise)


def _frequency() -> Reading:
    psutil = psutil_or_none()
    if psutil is None:
        return Reading(None, WITHOUT_PSUTIL)
    try:
        found = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    except (OSError, NotImplementedError) as error:
        return Reading(None, f"the frequency cannot be read: {error}")
    return Reading(found.current) if found and found.current else Reading(None, "this system tells no processor frequency")

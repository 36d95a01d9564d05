"""What the machine runs on, and what its power plan is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pocketseq_bench.device.processes import WITHOUT_PSUTIL, psutil_or_none
from pocketseq_bench.row import Reading


def power_mode() -> Reading:
    """1 on mains, 0 on battery; the reason names the governor or power plan as far as the system tells."""
    psutil = psutil_or_none()
    battery = psutil.sensors_battery() if psutil is not None and hasattr(psutil, "sensors_battery") else None
    plan = _plan()
    if battery is not None:
        return Reading(1.0 if battery.power_plugged else 0.0, plan)
    without = "no battery found, so mains is likely" if psutil is not None else WITHOUT_PSUTIL
    return Reading(None, "; ".join(words for words in (without, plan) if words))


def _plan() -> str:
    if sys.platform == "win32":
        return _said("powercfg", "/getactivescheme")
    if sys.platform == "darwin":
        low = [line for line in _said("pmset", "-g").splitlines() if "lowpowermode" in line]
        return f"low power mode {low[0].split()[-1]}" if low else ""
    files = {
        "governor": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "profile": "/sys/firmware/acpi/platform_profile",
    }
    return ", ".join(f"{name} {Path(path).read_text(encoding='ascii').strip()}" for name, path in files.items() if _readable(path))


def _readable(path: str) -> bool:
    try:
        Path(path).read_bytes()
    except OSError:
        return False
    return True


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603 fixed words
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()

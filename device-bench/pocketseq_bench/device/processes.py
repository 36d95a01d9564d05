"""psutil where it is installed, and what there is without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from pocketseq_bench.row import Reading

WITHOUT_PSUTIL: Final = 'psutil is not installed; mend it with: pip install "pocketseq[bench]"'


def psutil_or_none() -> Any:
    """The module, or None: a device may have the SDK alone."""
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def resident_bytes() -> Reading:
    """Resident memory of this process now."""
    psutil = psutil_or_none()
    if psutil is not None:
        return Reading(psutil.Process().memory_info().rss)
    told = _told_bytes("self/status", "VmRSS")
    return Reading(None, WITHOUT_PSUTIL) if told is None else Reading(told)


def peak_bytes() -> Reading:
    """The most resident memory that this process ever had."""
    # What the system counts as used it hands on to the program that a process becomes: a large parent's peak would be its child's.
    told = _told_bytes("self/status", "VmHWM")
    if told is not None:
        return Reading(told)
    try:
        import resource
    except ImportError:
        psutil = psutil_or_none()
        return Reading(None, WITHOUT_PSUTIL) if psutil is None else Reading(psutil.Process().memory_info().peak_wset)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Reading(used if sys.platform == "darwin" else 1024 * used)  # bytes there, KiB elsewhere


def available_bytes() -> int | None:
    """Memory that new processes may take without pushing others out; None where the system does not tell."""
    psutil = psutil_or_none()
    if psutil is not None:
        return int(psutil.virtual_memory().available)
    return _told_bytes("meminfo", "MemAvailable")


def _told_bytes(file: str, name: str) -> int | None:
    """What Linux tells of memory in a file of ``/proc``, in KiB there."""
    try:
        lines = Path("/proc", file).read_text(encoding="utf-8", errors="replace").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
    except (OSError, StopIteration):
        return None

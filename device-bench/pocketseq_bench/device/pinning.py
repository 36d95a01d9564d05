"""Holding a process to some processors, so that the scheduler does not move it in the middle of a measurement."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketseq_bench.device.processes import WITHOUT_PSUTIL, psutil_or_none

PROCESSORS: Final = Path("/sys/devices/system/cpu")
"""Where Linux tells of them."""


@dataclass(frozen=True, slots=True)
class Pinning:
    """Which processors a process is held to."""

    cores: tuple[int, ...]
    """Their numbers; empty where the process may run anywhere."""
    reason: str
    """Why these, or why none."""


def choose_cores(count: int) -> Pinning:
    """Choose the fastest processors, and among these the least busy; of one core only one while there are other cores.

    Args:
        count: How many threads will run.
    """
    allowed = _allowed()
    if allowed is None:
        return Pinning(
            (), "not pinned: this system has no processor affinity" + ("" if psutil_or_none() else f", or {WITHOUT_PSUTIL}")
        )
    if count > len(allowed):
        return Pinning((), f"not pinned: {count} threads on {len(allowed)} processors")
    psutil = psutil_or_none()
    busy = psutil.cpu_percent(interval=0.3, percpu=True) if psutil else []
    load = {core: busy[core] if core < len(busy) else 0.0 for core in allowed}
    # Of processors alike the last: interrupts mostly land on the first.
    order = sorted(allowed, key=lambda core: (-_speed(core), round(load[core] / 20), -core))
    # Two processors of one core share what computes: the second of each comes after all the others.
    first = {_siblings(core): core for core in reversed(order)}
    order.sort(key=lambda core: first[_siblings(core)] != core)
    cores = tuple(sorted(order[:count]))
    return Pinning(cores, f"processor{'s' if count > 1 else ''} {', '.join(map(str, cores))}")


def pin(cores: Sequence[int]) -> str:
    """Hold this process to processors; returns why that failed, or nothing."""
    if not cores:
        return ""
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        else:
            psutil_or_none().Process().cpu_affinity(list(cores))
    except (OSError, AttributeError, ValueError) as error:
        return f"not pinned: {error}"
    return ""


def _allowed() -> list[int] | None:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    psutil = psutil_or_none()
    if psutil is not None and hasattr(psutil.Process, "cpu_affinity"):
        return sorted(psutil.Process().cpu_affinity())
    return None


def _siblings(core: int) -> str:
    """The processors that are one core, as the system writes them; itself where it does not tell."""
    try:
        return (PROCESSORS / f"cpu{core}/topology/thread_siblings_list").read_text(encoding="ascii").strip()
    except OSError:
        return str(core)


def _speed(core: int) -> int:
    """Capacity or highest frequency, where cores differ; 0 where the system does not tell."""
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        try:
            return int((PROCESSORS / f"cpu{core}" / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return 0

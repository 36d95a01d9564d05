"""The machine that something was measured or trained on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's trade name where the system tells it, otherwise its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

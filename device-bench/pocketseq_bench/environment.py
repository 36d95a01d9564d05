"""Where a measurement was made, for documents that hold more than a benchmark: a number without its machine says little."""

from __future__ import annotations

from typing import Any

from pocketseq.records import plain
from pocketseq_bench.device import device_card


def environment() -> dict[str, Any]:
    """The device card as JSON values; no host or user name."""
    values: dict[str, Any] = plain(device_card())
    return values

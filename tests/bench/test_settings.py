"""What can be asked of a benchmark."""

from __future__ import annotations

from typing import Any

import pytest

from pocketseq.errors import InputError
from pocketseq_bench.measuring import BenchSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sustained_minutes": -1.0}, "sustained_minutes: expected a time from 0, found -1"),
        ({"sustained_minutes": float("nan")}, "sustained_minutes: expected a time from 0, found nan"),
        ({"budget_s": 0.0}, "expected times above 0"),
        ({"least_rounds": 0}, "least_rounds: expected a whole number from 1, found 0"),
        ({"warmup": -1}, "warmup: expected a whole number from 0, found -1"),
        ({"batches": (1, 0)}, "batches: expected whole numbers from 1"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused_beforehand(changes: dict[str, Any], message: str) -> None:
    """Not when all else was measured and there is nothing to take a median of."""
    with pytest.raises(InputError, match=message):
        BenchSettings(**changes)

"""The highest of many scores."""

from __future__ import annotations

import numpy as np
import pytest

from pocketseq.decoding.ranking import highest


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 500, 4096, 5000])
@pytest.mark.parametrize("count", [1, 8, 40])
def test_it_gives_what_sorting_gives(size: int, count: int) -> None:
    """With many equals among them, and minus infinity."""
    scores = np.random.default_rng(size).integers(-9, 9, size).astype(np.float32)
    scores[::3] = -np.inf
    np.testing.assert_array_equal(highest(scores, count), np.argsort(-scores, kind="stable")[:count])


def test_the_last_few_count_too() -> None:
    """Those behind the last whole block."""
    scores = np.zeros(64 * 5 + 3, dtype=np.float32)
    scores[-1] = 1
    assert highest(scores, 2).tolist() == [322, 0]

"""Scales and ticks."""

from __future__ import annotations

import pytest

from pocketseq.report.drawing import Scale, picture, round_steps, text
from pocketseq.report.figures import decimal, megabytes, millions, milliseconds, share


def test_a_scale_maps_its_ends_and_may_run_backwards() -> None:
    """Pixels grow downwards, values upwards."""
    scale = Scale(0, 10, 100, 0)
    assert [scale(0), scale(5), scale(10)] == [100, 50, 0]


def test_a_logarithmic_scale_gives_equal_factors_equal_room() -> None:
    """1 to 10 takes as much as 10 to 100."""
    scale = Scale(1, 100, 0, 200, logarithmic=True)
    assert [scale(1), scale(10), scale(100)] == [0, 100, 200]


@pytest.mark.parametrize(
    ("high", "ticks"),
    [(1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0.34, [0, 0.1, 0.2, 0.3, 0.4]), (0.02, [0, 0.005, 0.01, 0.015, 0.02])],
)
def test_ticks_are_round_and_reach_the_highest_value(high: float, ticks: list[float]) -> None:
    """Steps of 1, 2 or 5 times a power of ten."""
    assert round_steps(high, at_most=5) == ticks


def test_words_in_a_picture_are_escaped() -> None:
    """A model's name may hold anything."""
    assert "a&lt;b" in picture(1, 1, 'say "a<b"', [text(0, 0, "a<b", "label")])
    assert 'aria-label="say &quot;a&lt;b&quot;"' in picture(1, 1, 'say "a<b"', [])


def test_numbers_read_as_people_write_them() -> None:
    """Absent numbers are a dash, and 0.999 is not certainty."""
    assert [share(0.7149), share(None)] == ["71.5%", "–"]
    assert [milliseconds(182.3), milliseconds(13.24), milliseconds(None)] == ["182", "13.2", "–"]
    assert [megabytes(6_950_000), millions(6_310_000)] == ["7.0", "6.3M"]
    assert [decimal(0.999), decimal(1.0), decimal(0.5), decimal(None)] == ["0.99", "1.00", "0.50", "–"]

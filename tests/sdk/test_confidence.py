"""Confidence: scorers against numbers by hand."""

from __future__ import annotations

import math

import pytest

from pocketseq.confidence import DEFAULT_SCORER, SCORERS, confidence

LOGPROBS = [math.log(0.5), math.log(0.8), math.log(0.9)]


@pytest.mark.parametrize(
    ("scorer", "expected"),
    [("chow_sum", 0.36), ("chow_average", 0.36 ** (1 / 3)), ("chow_minimum", 0.5), ("first_token", 0.5)],
)
def test_scorers_give_the_numbers_by_hand(scorer: str, expected: float) -> None:
    """Product, geometric mean, least and first of the tokens' probabilities."""
    assert confidence(LOGPROBS, scorer) == pytest.approx(expected)


def test_the_default_is_the_probability_of_the_whole_answer() -> None:
    """A number with a meaning, for a model that nobody calibrated."""
    assert DEFAULT_SCORER == "chow_sum"
    assert confidence(LOGPROBS) == pytest.approx(0.36)


@pytest.mark.parametrize("scorer", sorted(SCORERS))
def test_confidence_stays_between_0_and_1(scorer: str) -> None:
    """Also where rounding left a log-probability above zero, and for an impossible token."""
    assert confidence([1e-7, 0.0], scorer) == 1.0
    assert confidence([-math.inf, 0.0], scorer) == 0.0
    assert 0 <= (confidence([-1e9] * 50, scorer) or 0) <= 1


@pytest.mark.parametrize("logprobs", [[], [-0.1, math.nan]])
def test_no_confidence_is_made_up(logprobs: list[float]) -> None:
    """Without tokens, or where the runtime computed no number, there is none."""
    assert confidence(logprobs) is None

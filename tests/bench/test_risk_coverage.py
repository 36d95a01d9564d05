"""The risk–coverage curve against numbers worked out by hand."""

from __future__ import annotations

import re

import pytest

from pocketseq.report.risk_coverage import curve_plot, risk_coverage


def test_risk_is_the_share_of_wrong_answers_among_the_surest() -> None:
    """Four rows, the third surest is wrong: 0, 0, 1/3, 1/4."""
    curve = risk_coverage([0.2, 0.9, 0.6, 0.8], [True, True, False, True])
    assert curve.coverage == (0.25, 0.5, 0.75, 1.0)
    assert curve.risk == pytest.approx((0, 0, 1 / 3, 1 / 4))
    assert curve.oracle_risk == pytest.approx((0, 0, 0, 1 / 4))
    assert curve.base_risk == 0.25


def test_equal_confidences_are_served_together() -> None:
    """A threshold cannot tell them apart, so the curve has one point for both."""
    curve = risk_coverage([0.5, 0.5, 0.1], [True, False, False])
    assert curve.coverage == pytest.approx((2 / 3, 1))
    assert curve.risk == pytest.approx((1 / 2, 2 / 3))


def test_the_risk_at_a_coverage_is_that_of_what_was_served() -> None:
    """Nothing served, nothing wrong."""
    curve = risk_coverage([0.9, 0.8], [False, True])
    assert curve.at(0) == 0
    assert curve.at(0.5) == 1
    assert curve.at(1) == 0.5


@pytest.mark.parametrize("risk", [0.24, 0.25, 0.26, 0.6])
def test_the_words_of_near_lines_do_not_lie_on_one_another(risk: float) -> None:
    """The promise above, at or below the risk of serving everything: a line of words apart."""
    picture = curve_plot(risk_coverage([0.2, 0.9, 0.6, 0.8], [True, True, False, True]), "t", risk=risk)
    heights = {words: float(y) for y, words in re.findall(r'y="([\d.]+)"[^>]*>(all served|promised)', picture)}
    assert set(heights) == {"all served", "promised"}
    assert abs(heights["all served"] - heights["promised"]) >= 14

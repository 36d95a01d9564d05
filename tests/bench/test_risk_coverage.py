"""The risk–coverage curve against numbers worked out by hand."""

from __future__ import annotations

import re

import pytest

from pocketseq.report.risk_coverage import WIDTH, curve_plot, risk_coverage


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


@pytest.mark.parametrize(("right", "served"), [(50, 0.5), (10, 0.1), (0, 1.0)])
def test_what_is_served_is_written_where_nothing_else_stands(right: int, served: float) -> None:
    """Not over the ticks below the axis where nearly nothing is lost, and within the picture on either side."""
    curve = risk_coverage([1 - place / 100 for place in range(100)], [place < right for place in range(100)])
    picture = curve_plot(curve, "a curve", served=served)
    found = re.search(rf'class="strong (start|end)" x="([0-9.]+)" y="([0-9.]+)">{100 * served:g}', picture)
    assert found is not None
    (floor,) = {float(y) - 18 for y in re.findall(r'class="tick middle" x="[0-9.]+" y="([0-9.]+)"', picture)}
    assert float(found[3]) < floor - 4
    assert float(found[2]) < 0.7 * WIDTH if found[1] == "start" else float(found[2]) > 0.35 * WIDTH

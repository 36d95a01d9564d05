"""Labels of a plot leave each other room."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from pocketseq_bench.report.labels import LETTER, Labels

CROWD = [("all local", (60.0, 130.0)), ("calibrated", (82.0, 136.0)), ("0.5", (102.0, 135.0)), ("0.7", (131.0, 138.0))]


def spans(beside: bool) -> list[tuple[float, float, float]]:
    """Left, right and base line of each label."""
    labels = Labels([point for _, point in CROWD], width=560, height=260, beside=beside)
    found = []
    for words, point in CROWD:
        written = labels.put(words, point)
        place = re.search(r'class="label (\w+)" x="([\d.]+)" y="([\d.]+)">', written)
        assert place is not None
        left = float(place[2]) - {"start": 0, "middle": LETTER * len(words) / 2, "end": LETTER * len(words)}[place[1]]
        found.append((left, left + LETTER * len(words), float(place[3])))
    return found


@pytest.mark.parametrize("beside", [True, False])
def test_names_of_points_that_crowd_can_be_read(beside: bool) -> None:
    """No two cover each other, though the points are nearer than their names are long."""
    for one, other in combinations(spans(beside), 2):
        assert one[1] <= other[0] or other[1] <= one[0] or abs(one[2] - other[2]) >= 12


def test_a_line_through_the_points_crosses_no_name() -> None:
    """Without room beside them names stand above or below: in the middle, and well off."""
    for (_, point), (left, right, base) in zip(CROWD, spans(False), strict=True):
        assert (left + right) / 2 == pytest.approx(point[0], abs=0.01)
        assert abs(base - point[1]) >= 12

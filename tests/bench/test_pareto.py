"""The picture of size against quality."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from pocketseq.report.drawing import power_steps, steps_between
from pocketseq_bench.report.pareto import ParetoPoint, pareto_front, pareto_plot

POINTS = [
    ParetoPoint("onnx/fp32", 21_000_000, 0.630, kind="onnx"),
    ParetoPoint("onnx/fp16", 10_700_000, 0.631, kind="onnx"),
    ParetoPoint("onnx/int8", 5_400_000, 0.628, kind="onnx", chosen=True),
    ParetoPoint("tflite/int8", 5_900_000, 0.621, kind="tflite"),
]


def test_the_front_holds_what_nothing_smaller_beats() -> None:
    """Bigger and no better is off the front, however little bigger."""
    assert [point.label for point in pareto_front(POINTS)] == ["onnx/int8", "onnx/fp16"]


def test_of_two_alike_only_one_is_on_the_front() -> None:
    """The same size: the better one; the same quality: the smaller one."""
    points = [ParetoPoint("a", 10, 0.5), ParetoPoint("b", 10, 0.6), ParetoPoint("c", 11, 0.6)]
    assert [point.label for point in pareto_front(points)] == ["b"]


@pytest.mark.parametrize("points", [POINTS, POINTS[:1], [*POINTS, ParetoPoint("teacher", 900_000_000, 0.7, kind="teacher")]])
def test_the_picture_names_every_variant(points: list[ParetoPoint]) -> None:
    """One dot and one label each, also for a single variant and for one that is a hundred times as large."""
    picture = ET.fromstring(pareto_plot(points, floor=0.62))
    words = {element.text for element in picture if element.tag == "text"}
    assert {point.label for point in points} <= words
    assert sum("mark" in element.get("class", "") for element in picture if element.tag == "circle") == len(points)


def test_labels_do_not_cover_one_another() -> None:
    """Five variants in one place still have five names that can be read."""
    crowd = [ParetoPoint(f"onnx/{name}", 5_400_000, 0.63) for name in ("int8", "fp16", "int4", "mixed", "fp32")]
    labels = [element for element in ET.fromstring(pareto_plot(crowd)) if "onnx" in (element.text or "")]
    places = {(element.get("class"), element.get("x"), element.get("y")) for element in labels}
    assert len(places) == len(crowd)
    heights = {
        side: sorted(float(e.get("y", "")) for e in labels if side in e.get("class", "")) for side in ("start", "end", "middle")
    }
    for column in heights.values():
        assert all(below - above >= 14 for above, below in pairwise(column))


def test_ticks_around_a_range_that_does_not_start_at_nothing() -> None:
    """They reach below and above it."""
    assert steps_between(0.61, 0.64, at_most=5) == [0.61, 0.62, 0.63, 0.64]
    assert steps_between(0.5, 0.5, at_most=5)[0] <= 0.5 < steps_between(0.5, 0.5, at_most=5)[-1]
    assert power_steps(2, 40) == [1, 3, 10, 30, 100]

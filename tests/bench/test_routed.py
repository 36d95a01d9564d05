"""Measuring a hybrid: shares, rows, and the suggestions that people see."""

from __future__ import annotations

import pytest

from pocketseq import Example, Hybrid
from pocketseq.errors import DataError, EndpointUnavailableError
from pocketseq.template import Input
from pocketseq.testing import FakeEndpoint, FakeModel
from pocketseq_bench.routed import RoutedMeasurement, measure_hybrid


def rows(count: int) -> list[Example]:
    return [Example(id=str(number), fields={"text": f"line {number}"}, target="right") for number in range(count)]


class Moody(FakeModel):
    """Right and sure about even rows, wrong and unsure about odd ones."""

    def __init__(self) -> None:
        super().__init__("right", threshold=0.5)
        self.sure, self.unsure = FakeModel("right", confidence=0.9), FakeModel("wrong", confidence=0.1)

    def generate(self, source: Input, /, **_: object) -> object:  # type: ignore[override]
        text = source if isinstance(source, str) else source["text"]
        return (self.sure if int(text.split()[1]) % 2 == 0 else self.unsure).generate(text)


def measure(count: int, endpoint: FakeEndpoint) -> RoutedMeasurement:
    return measure_hybrid(Hybrid(Moody(), endpoint), rows(count), warmup=0)  # type: ignore[arg-type]


def test_shares_say_who_answered_and_how_right() -> None:
    """Half the rows stay here; with the cloud all are right, without it half."""
    measured = measure(4, FakeEndpoint("right")).to_json()
    names = ("n", "coverage", "cloud_fraction", "exact_match", "local_exact_match", "cloud_failures", "auroc")
    assert {name: measured[name] for name in names} == {
        "n": 4,
        "coverage": 0.5,
        "cloud_fraction": 0.5,
        "exact_match": 1.0,
        "local_exact_match": 0.5,
        "cloud_failures": 0,
        "auroc": 1.0,
    }
    assert [row["source"] for row in measured["rows"]] == ["local", "cloud", "local", "cloud"]
    assert measured["bytes_sent"] > 0


def test_a_cloud_that_is_down_counts_as_neither() -> None:
    """The local answer stands, yet it was not served for its confidence."""
    measured = measure(4, FakeEndpoint(EndpointUnavailableError("down"))).to_json()
    assert (measured["coverage"], measured["cloud_fraction"], measured["cloud_failures"]) == (0.5, 0.0, 2)
    assert measured["exact_match"] == 0.5


def test_nothing_is_no_measurement() -> None:
    """Shares of no rows would be shares of nothing."""
    with pytest.raises(DataError, match="expected labelled rows to ask the hybrid about, found none"):
        measure(0, FakeEndpoint("right"))


def test_people_are_shown_ten_in_order_and_both_sources() -> None:
    """Six from the device and four from the cloud, the first of each; nothing is picked for its looks."""
    shown = measure(40, FakeEndpoint("right")).shown("text")
    assert [int(row["line"].split()[1]) for row in shown] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]
    assert sum(row["source"] == "cloud" for row in shown) == 4
    assert shown[1]["answer"] == "right"
    assert "below" in shown[1]["reason"]


def test_one_source_fills_up_for_the_other() -> None:
    """Where too few stay on the device, more come from the cloud."""
    shown = measure(5, FakeEndpoint("right")).shown("text")
    assert [row["source"] for row in shown] == ["local", "cloud", "local", "cloud", "local"]

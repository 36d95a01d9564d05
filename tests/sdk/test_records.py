"""Records: JSON values become dataclasses strictly, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from pocketseq.errors import DataError
from pocketseq.records import plain, read_record


@dataclass(frozen=True)
class Part:
    size: int


@dataclass(frozen=True)
class Whole:
    name: str
    share: float
    side: Literal["left", "right"] = "left"
    parts: tuple[Part, ...] = ()
    spare: Part | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)


VALUES = {
    "name": "a",
    "share": 1,
    "side": "right",
    "parts": [{"size": 2}],
    "spare": None,
    "scores": {"x": 0.5},
    "free": {"y": [1, {"z": None}]},
}


def read(value: object) -> Whole:
    return read_record(Whole, value, where="file.json", error=DataError)


def test_values_survive_the_way_there_and_back() -> None:
    """What is written is what is read."""
    record = read(VALUES)
    assert record.parts == (Part(size=2),)
    assert plain(record) == VALUES
    assert read(plain(record)) == record


def test_arrays_become_lists() -> None:
    """Of numbers that JSON knows, as deep as they are, and a number of numpy's one of these."""
    values = plain({"state": np.array([[1, 0.5]], dtype=np.float32), "gate": np.float32(0.25), "count": np.int64(3)})
    assert json.loads(json.dumps(values)) == values == {"state": [[1.0, 0.5]], "gate": 0.25, "count": 3}


def test_absent_optional_keys_take_their_defaults() -> None:
    """Only what has no default must be there."""
    assert read({"name": "a", "share": 0.5}) == Whole(name="a", share=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": 1}, r"file\.json: expected keys among .* found also \['nmae'\]"),
        ({"name": 3}, "file.json: name: expected a string, found 3"),
        ({"share": True}, "share: expected a finite number, found True"),
        ({"share": float("nan")}, "share: expected a finite number, found nan"),
        ({"share": float("-inf")}, "share: expected a finite number, found -inf"),
        ({"share": 10**400}, "share: expected a finite number, found 1000"),
        ({"side": "top"}, r"side: expected one of \['left', 'right'\], found 'top'"),
        ({"parts": {"size": 2}}, "parts: expected a list"),
        ({"parts": [{"size": "2"}]}, r"parts\[0\]: size: expected a whole number, found '2'"),
        ({"parts": [{"size": True}]}, r"size: expected a whole number, found True"),
        ({"scores": {"x": "high"}}, r"scores\.x: expected a finite number, found 'high'"),
        ({"scores": []}, "scores: expected an object"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(change: dict[str, Any], message: str) -> None:
    """The message says where, what was expected and what was found."""
    with pytest.raises(DataError, match=message):
        read({**VALUES, **change})


def test_a_missing_key_is_named() -> None:
    """The reader learns which one."""
    with pytest.raises(DataError, match="found none of the name 'share'"):
        read({"name": "a"})


def test_what_is_no_object_is_refused() -> None:
    """A list or a string is no record."""
    with pytest.raises(DataError, match="expected an object, found list"):
        read([])

"""What ships is chosen by measurement, and the table says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pocketseq_export.selection import Candidate, Limits, choose, table_lines


def candidate(label: str, size_mb: float, exact_match: float | None, latency_ms: float | None, fault: str = "") -> Candidate:
    drop = None if exact_match is None else 0.60 - exact_match
    return Candidate(label, size_mb, exact_match=exact_match, quality_drop=drop, latency_ms=latency_ms, fault=fault)


VARIANTS = [
    candidate("onnx/fp32", 25.0, 0.60, 4.0),
    candidate("onnx/int8", 6.5, 0.595, 2.0),
    candidate("onnx/int4", 4.0, 0.55, 2.5),
    candidate("tflite/fp32", 25.2, 0.60, 9.0),
    candidate("tflite/int8", 6.6, 0.58, 5.0),
]


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        (Limits(max_quality_drop=0.01), {"onnx/int8", "tflite/fp32"}),
        (Limits(max_quality_drop=0.05), {"onnx/int4", "tflite/int8"}),
        (Limits(max_quality_drop=0.05, prefer="speed"), {"onnx/int8", "tflite/int8"}),
        (Limits(max_quality_drop=0.01, max_size_mb=10), {"onnx/int8"}),
        (Limits(max_latency_ms=3), {"onnx/int4"}),
        (Limits(max_latency_ms=1), set()),
    ],
)
def test_one_variant_of_each_runtime_is_chosen(limits: Limits, chosen: set[str]) -> None:
    """The smallest, or the fastest, of those within every limit; none where none is."""
    assert set(choose(VARIANTS, limits).chosen) == chosen


def test_the_table_says_why() -> None:
    """For each variant, with all the limits that it breaks."""
    selection = choose(VARIANTS, Limits(max_quality_drop=0.01, max_size_mb=10))
    why = {each.label: each.why for each in selection.candidates}
    assert why["onnx/int8"] == "the smallest within the limits"
    assert why["onnx/int4"] == "loses 0.050, more than 0.01"
    assert why["onnx/fp32"] == "25.0 MB, more than 10"
    assert why["tflite/int8"] == "loses 0.020, more than 0.01"
    lines = table_lines(selection)
    assert lines[0].split() == ["variant", "MB", "exact", "match", "lost", "ms"]
    assert lines[2] == "*  onnx/int8     6.5        0.595  0.005  2.0  the smallest within the limits"
    assert [line.split()[0] for line in lines[1:]] == ["onnx/int4", "*", "onnx/fp32", "tflite/int8", "tflite/fp32"]


def test_what_is_not_chosen_is_larger_than_what_is() -> None:
    """Where it is within the limits itself."""
    why = {each.label: each.why for each in choose(VARIANTS, Limits(max_quality_drop=0.01)).candidates}
    assert why["onnx/fp32"] == "larger than onnx/int8"
    why = {each.label: each.why for each in choose(VARIANTS, Limits(max_quality_drop=0.01, prefer="speed")).candidates}
    assert why["onnx/fp32"] == "slower than onnx/int8"


def test_what_did_not_pass_its_verification_is_never_chosen() -> None:
    """However small it is."""
    failed = replace(VARIANTS[2], fault="exact match 0.1 where the checkpoint has 0.6")
    selection = choose([*VARIANTS[:2], failed], Limits(max_quality_drop=1.0))
    assert selection.chosen == ("onnx/int8",)
    assert selection.candidates[0].why == "exact match 0.1 where the checkpoint has 0.6"


def test_what_could_not_run_here_stays_unmeasured() -> None:
    """Beside what could; the table shows no numbers for it."""
    unchecked = candidate("coreml/int8", 6.6, None, None, fault="needs a Mac")
    selection = choose([*VARIANTS[:2], unchecked], Limits(max_quality_drop=0.01))
    assert set(selection.chosen) == {"onnx/int8", "coreml/int8"}
    assert table_lines(selection)[-1].split("  ")[-1] == "not checked on this machine"
    assert "–" in table_lines(selection)[-1]

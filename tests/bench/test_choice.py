"""The part of the report that shows what ships and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from pocketseq.errors import DataError
from pocketseq_bench.report import read_findings, report_page
from pocketseq_bench.report.choice import choice_section, read_judged


def judged(runtime: str, precision: str, size_bytes: int, exact_match: float | None, **changes: Any) -> dict[str, Any]:
    value = {
        "runtime": runtime,
        "precision": precision,
        "size_bytes": size_bytes,
        "parity": None if exact_match is None else {"identical_generations": 0.98},
        "metrics": None if exact_match is None else {"exact_match": exact_match},
        "latency_ms": None if exact_match is None else 12.5,
        "kept": True,
        "reason": "",
        "kept_layers": [],
    }
    return value | changes


@pytest.fixture
def verified(run_directory: Path) -> Path:
    """A run whose verification dropped one variant, mended another and could not run a third."""
    variants = [
        judged("onnx", "int4", 4_000_000, 0.55, kept=False, reason="exact match 0.55 where the checkpoint has <0.6>"),
        judged("onnx", "int8", 6_500_000, 0.59, kept_layers=["encoder.layers.0.ffn.output"]),
        judged("coreml", "int8", 6_600_000, None, reason="needs a Mac"),
    ]
    chosen = [{"label": "onnx/int8", "why": "the smallest within the limits"}]
    (run_directory / "verification.json").write_text(json.dumps({"variants": variants, "selection": {"candidates": chosen}}))
    return run_directory


def test_what_was_judged_is_read(verified: Path) -> None:
    """With the reason of the choice before that of the verdict."""
    int4, int8, coreml = read_judged(verified)
    assert (int4.label, int4.kept, int4.exact_match) == ("onnx/int4", False, 0.55)
    assert int8.why == "in a higher precision: encoder.layers.0.ffn.output; the smallest within the limits"
    assert (coreml.exact_match, coreml.identical, coreml.latency_ms, coreml.why) == (None, None, None, "needs a Mac")


def test_the_page_draws_size_against_quality(verified: Path) -> None:
    """A dot for each variant that was measured, a ring round what ships, and every reason in the table."""
    page = report_page(read_findings(verified, recipe="tiny", task="python-fix"))
    section = choice_section(read_judged(verified))
    assert section in page
    picture = ET.fromstring(section[section.index("<svg") : section.index("</svg>") + 6])
    circles = [circle.get("class", "") for circle in picture.iter("circle")]
    assert sum("mark" in each for each in circles) == 2
    assert [each for each in circles if "ring" in each] == ["ring onnx"]
    assert "where the checkpoint has &lt;0.6&gt;" in section
    assert "<td>coreml/int8</td>" not in section  # it ships, so it is strong
    assert "needs a Mac" in section


def test_a_run_without_a_verification_has_no_such_section(run_directory: Path) -> None:
    """Nor does the page miss it."""
    assert read_judged(run_directory) == ()
    assert choice_section(()) == ""
    assert "What ships" not in report_page(read_findings(run_directory, recipe="tiny", task="python-fix"))


def test_a_verification_of_another_form_is_refused(run_directory: Path) -> None:
    """With what to do."""
    (run_directory / "verification.json").write_text("{}")
    with pytest.raises(DataError, match=r"verification\.json: expected what the stage verify writes, found no 'variants'; run"):
        read_judged(run_directory)

"""``pocketseq demo --quick``: the whole way on this machine, from corpus to report, with the teacher that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketseq.cli import main


def test_the_demo_goes_all_the_way_and_a_second_time_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends in the table, ten suggestions and both reports; called again it skips every stage and shows the same."""
    assert main(["demo", "--quick", "--output", str(tmp_path)]) == 0
    first = capsys.readouterr()
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [(row["name"], row["runtime"]) for row in report["rows"]] == [
        ("teacher", "pytorch"),
        ("student", "onnx"),
        ("student-int8", "tflite"),
        ("student-int8", "onnx"),
    ]
    assert (tmp_path / "bundle/coreml/int8.mlpackage").is_dir()  # only a Mac can measure it
    teacher, shipped = report["rows"][0], report["rows"][-1]
    assert shipped["size_bytes"] * 4 <= teacher["size_bytes"]
    assert len(json.loads((tmp_path / "hybrid.json").read_text(encoding="utf-8"))["suggestions"]) == 10
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"It takes about two minutes on two cores; everything goes to {tmp_path}" in first.err
    assert "student-int8 (onnx)" in first.out
    assert "hybrid:" in first.out
    assert main(["demo", "--quick", "--output", str(tmp_path)]) == 0
    second = capsys.readouterr()
    assert second.err.count("unchanged, skipped") == 12
    assert second.out == first.out

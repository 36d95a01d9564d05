"""What routing adds to a local suggestion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketseq.errors import DataError
from pocketseq_bench.measuring import BenchInputs
from pocketseq_bench.measuring.inputs import default_inputs
from pocketseq_bench.routing import WARMUP, main, routing


def test_routing_is_told_without_the_model() -> None:
    """By both clocks, with and without telemetry that listens; far less than the answer itself takes the device."""
    rows = default_inputs("python-fix").rows[: WARMUP + 5]
    found = routing("python-fix", BenchInputs.of_examples(rows, origin="some"), rounds=2)
    assert (found["variant"], found["rows"], found["rounds"], found["inputs"]) == ("onnx/int8", 5, 2, "some")
    assert set(found["routing_ms"]) == {"none", "spans", "spans and metrics"}
    for clocks in found["routing_ms"].values():
        for one in clocks.values():
            assert 0 < one["p50"] <= one["p95"] <= one["p99"]


def test_what_the_cache_answers_is_not_counted() -> None:
    """A row that follows itself does not ask the model, of whose time nothing can be taken off then; one row alone always does."""
    rows = default_inputs("python-fix").rows
    repeated = [*rows[:WARMUP], rows[20], rows[20], rows[20], rows[20], rows[21]]
    found = routing("python-fix", BenchInputs.of_examples(repeated, origin="some"), rounds=2)
    assert all(one["p50"] > 0 for clocks in found["routing_ms"].values() for one in clocks.values())
    with pytest.raises(DataError, match="some: expected rows that differ from the one before, found 1 suggestions in 2 rounds"):
        routing("python-fix", BenchInputs.of_examples(rows[: WARMUP + 1], origin="some"), rounds=2)


def test_what_leaves_nothing_to_measure_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is opened; a command says so in a line."""
    inputs = BenchInputs.of_examples(default_inputs("python-fix").rows[:WARMUP], origin="some")
    with pytest.raises(DataError, match="some: expected more than the 16 rows of the warm-up, found 16"):
        routing(tmp_path, inputs)
    assert main(["python-fix", "--rounds", "0"]) == 1
    assert capsys.readouterr().err == "rounds: expected a whole number from 1, found 0\n"


def test_the_command_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And prints a line for each telemetry and clock."""
    inputs = tmp_path / "rows.jsonl"
    inputs.write_text("".join(json.dumps({"fields": {"line": f"retrun x{number}"}}) + "\n" for number in range(WARMUP + 2)))
    assert main(["python-fix", "--inputs", str(inputs), "--rounds", "1", "-o", str(tmp_path / "routing.json")]) == 0
    assert json.loads((tmp_path / "routing.json").read_text())["bundle"] == "python-fix"
    assert capsys.readouterr().out.count("p99") == 6
    assert main(["python-fix", "--inputs", str(tmp_path / "none.jsonl")]) == 1
    assert "expected a file of inputs" in capsys.readouterr().err

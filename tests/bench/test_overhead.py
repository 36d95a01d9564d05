"""What the SDK costs beside the runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketseq.errors import DataError
from pocketseq_bench.measuring import BenchInputs
from pocketseq_bench.measuring.inputs import default_inputs
from pocketseq_bench.overhead import WARMUP, Timed, main, overhead


def test_the_share_is_told_for_new_and_for_seen_text() -> None:
    """By both clocks, of the variant that a device takes, on the rows behind the warm-up."""
    rows = default_inputs("python-fix").rows[: WARMUP + 6]
    found = overhead("python-fix", BenchInputs.of_examples(rows, origin="some"), rounds=2)
    assert (found["variant"], found["rows"], found["rounds"], found["inputs"]) == ("onnx/int8", 6, 2, "some")
    for kind in ("new_text", "seen_text"):
        for clock in ("wall", "cpu"):
            one = found[kind][clock]
            assert 0 < one["share"] <= one["share_p95"] < 1
            assert one["sdk_us"] > 0
            assert one["runtime_us"] > 0


def test_a_timed_runtime_does_what_it_did() -> None:
    """It has the calls that the runtime has, gives what they give, and counts calls that fail too."""

    class Runtime:
        def encode(self, ids: list[int], *, mask: int) -> int:
            if not ids:
                raise LookupError("mine")
            return sum(ids) + mask

    timed = Timed(Runtime())
    ticks = iter([1.0, 3.5, 10.0, 11.0])
    timed.now = lambda: next(ticks)
    assert timed.encode([1, 2], mask=3) == 6
    assert timed.spent == 2.5
    with pytest.raises(LookupError, match="mine"):
        timed.encode([], mask=1)
    assert timed.spent == 3.5
    assert not hasattr(timed, "greedy")


def test_what_leaves_nothing_to_measure_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is opened; a command says so in a line."""
    inputs = BenchInputs.of_examples(default_inputs("python-fix").rows[:WARMUP], origin="some")
    with pytest.raises(DataError, match="some: expected more than the 16 rows of the warm-up, found 16"):
        overhead(tmp_path, inputs)
    assert main(["python-fix", "--rounds", "0"]) == 1
    assert capsys.readouterr().err == "rounds: expected a whole number from 1, found 0\n"


def test_the_command_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And prints a line for each kind of text and clock."""
    inputs = tmp_path / "rows.jsonl"
    inputs.write_text("".join(json.dumps({"fields": {"line": f"retrun x{number}"}}) + "\n" for number in range(WARMUP + 2)))
    assert main(["python-fix", "--inputs", str(inputs), "--rounds", "1", "-o", str(tmp_path / "overhead.json")]) == 0
    assert json.loads((tmp_path / "overhead.json").read_text())["bundle"] == "python-fix"
    assert capsys.readouterr().out.count("SDK") == 4
    assert main(["python-fix", "--inputs", str(tmp_path / "none.jsonl")]) == 1
    assert "expected a file of inputs" in capsys.readouterr().err

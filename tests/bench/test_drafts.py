"""What drafts bring, measured, and the decision that follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sdk.tiny import EDITS, write_bundle

from pocketseq import PocketModel
from pocketseq.errors import InputError
from pocketseq.examples import Example, write_examples
from pocketseq.testing import scripted_model
from pocketseq_bench.drafts import main, measure_drafts, pays

ROWS = [Example(id=str(number), fields={"text": text}, target=text) for number, text in enumerate(["a line to copy", "x", "y = 1"])]


def test_both_ways_are_timed_and_their_answers_compared() -> None:
    """A model that repeats its input: every answer right and the same, every round of both kept."""
    found = measure_drafts(scripted_model({}), ROWS, rounds=3)
    assert (found["rows"], found["rounds"], found["exact_match"], found["same_answers"]) == (3, 3, 1.0, 1.0)
    assert found["tokens"] == sum(len(row.target) + 1 for row in ROWS)
    assert found["max_logprob_difference"] == pytest.approx(0.0)
    assert [len(taken) for taken in found["runs"].values()] == [3, 3]
    for clock in ("wall_s", "cpu_s"):
        assert found["drafted_over_plain"][clock] > 0
        assert found["tokens_per_s"]["plain"][clock] > 0


def test_an_answer_that_is_another_one_is_seen() -> None:
    """A model that is told to draft and then says something else is not the same."""

    class Fickle:
        def generate(self, source: dict[str, str], *, draft: bool) -> object:
            return scripted_model({"x": "z"} if draft else {}).generate(source["text"])

    found = measure_drafts(Fickle(), ROWS, rounds=1)  # type: ignore[arg-type]
    assert found["same_answers"] == pytest.approx(2 / 3, abs=1e-4)
    assert not pays({**found, "drafted_over_plain": {"wall_s": 9.0, "cpu_s": 9.0}})


@pytest.mark.parametrize(("same", "ratio", "expected"), [(1.0, 1.2, True), (1.0, 1.05, False), (0.99, 3.0, False)])
def test_drafts_pay_where_they_change_nothing_and_gain_a_tenth(same: float, ratio: float, expected: bool) -> None:
    """By processor time."""
    assert pays({"same_answers": same, "drafted_over_plain": {"wall_s": 1.0, "cpu_s": ratio}}) is expected


def test_the_command_writes_the_result_and_the_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model of noise copies nothing, so that a bundle that drafted does so no more; the bundle still opens."""
    bundle = tmp_path / "bundle"
    write_bundle(bundle, precisions=("fp32",))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["generation"]["draft"] = True
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    write_examples(tmp_path / "rows.jsonl", ROWS)
    result = tmp_path / "drafts.json"
    assert main([str(bundle), str(tmp_path / "rows.jsonl"), "--rounds", "1", "--decide", "-o", str(result)]) == 0
    found = json.loads(result.read_text())
    assert found["same_answers"] == 1.0
    assert "100% the same answers" in capsys.readouterr().out
    with PocketModel.load(bundle) as model:
        assert model.manifest.generation.draft is found["pays"]
        assert model.generate("x").tokens


def test_what_cannot_be_measured_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name: answers that are edits, no rows, no directory to decide about."""
    bundle, rows = tmp_path / "bundle", tmp_path / "rows.jsonl"
    write_bundle(bundle, template=EDITS, precisions=("fp32",))
    write_examples(rows, [Example(id="0", fields={"line": "x"}, target="x")])
    assert main([str(bundle), str(rows)]) == 1
    assert "draft: expected a bundle that answers with text" in capsys.readouterr().err
    rows.write_text("")
    assert main([str(bundle), str(rows)]) == 1
    assert "expected rows to measure on, found none" in capsys.readouterr().err
    write_examples(rows, ROWS)
    assert main([str(bundle), str(rows), "--rows", "-1"]) == 1
    assert "--rows: expected a whole number from 1, found -1" in capsys.readouterr().err
    with PocketModel.load(bundle) as model, pytest.raises(InputError, match="rounds: expected a whole number from 1, found 0"):
        measure_drafts(model, ROWS, rounds=0)
    assert main(["python-fix", str(rows), "--decide"]) == 1
    assert "expected a bundle directory to write a decision into" in capsys.readouterr().err
    with pytest.raises(InputError), PocketModel.load(bundle) as model:
        measure_drafts(model, [Example(id="0", fields={"line": "x"}, target="x")], rounds=1)

"""What an update costs, with and without the teacher."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.distill.models import repair_examples
from tests.distill.test_ablation import RECIPE

from pocketseq.examples import write_examples
from pocketseq.files import write_json
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.training.pace import Pace, main


def test_updates_are_compared_pair_by_pair() -> None:
    """Half as long in every pair is a half, with certainty, however unlike the pairs are; one disturbed pair changes nothing."""
    pace = Pace.of([1.0, 20.0, 3.0], [2.0, 40.0, 6.0])
    assert pace.ratio.value == pace.ratio.low == pace.ratio.high == 0.5
    assert Pace.of([1.0, 20.0, 9.0, 2.0, 5.0], [2.0, 40.0, 6.0, 4.0, 10.0]).ratio.value == 0.5


@pytest.mark.parametrize("more", ['optimizer = "adamw"', 'optimizer = "muon"', "tokens_at_once = 40"])
def test_the_command_measures_both_kinds_in_turns(teacher_path: Path, tmp_path: Path, more: str) -> None:
    """As many updates of each, in parts where the plan sends long batches through so, with what they were measured on."""
    write_examples(tmp_path / "rows.jsonl", repair_examples(24))
    (tmp_path / "tiny.toml").write_text(f"{RECIPE}\n{more}\n")
    output = tmp_path / "pace.json"
    rows, recipe = str(tmp_path / "rows.jsonl"), str(tmp_path / "tiny.toml")
    main([str(teacher_path), rows, "--recipe", recipe, "--updates", "2", "--top-k", "4", "-o", str(output)])
    document = json.loads(output.read_text())
    assert len(document["cached_ms"]) == len(document["online_ms"]) == 2
    assert document["recipe"] == "tiny"


def test_rows_begin_with_what_the_teacher_is_made_to_say(
    teacher_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of the training whose pace is measured."""
    teacher = Path(shutil.copytree(teacher_path, tmp_path / "teacher"))
    file = teacher / "generation_config.json"
    write_json(file, {**json.loads(file.read_text()), "forced_bos_token_id": 9})
    write_examples(tmp_path / "rows.jsonl", repair_examples(24))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    seen: list[TokenRows] = []

    def measure(_: object, rows: TokenRows, *__: object, **___: object) -> Pace:
        seen.append(rows)
        return Pace.of([1.0], [2.0])

    monkeypatch.setattr("pocketseq_distill.training.pace.measure_pace", measure)
    rows, recipe, output = str(tmp_path / "rows.jsonl"), str(tmp_path / "tiny.toml"), str(tmp_path / "pace.json")
    main([str(teacher), rows, "--recipe", recipe, "--updates", "1", "--top-k", "4", "-o", output])
    assert {int(seen[0][place]["labels"][0]) for place in range(len(seen[0]))} == {9}

"""The stage ``table``, and the stages before it, on a small task in the place of a published one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distill.models import make_causal

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import DataError, RecipeError
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe
from pocketseq.pipeline.run import run_recipe
from pocketseq_bench.readme import tables_block
from pocketseq_distill import stages
from pocketseq_distill.distil import Data
from pocketseq_distill.ensemble import write_ensemble
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.causal import CausalSettings, CausalTeacher
from pocketseq_distill.published.stage import TableSettings
from pocketseq_distill.teaching import TeacherSettings, train_teachers
from pocketseq_distill.training.plan import TrainingPlan

from .data import pronunciations

SHAPE = {"units": "characters", "vocab_size": 300, "d_model": 16, "d_ff": 32, "heads": 2, "encoder_layers": 2, "decoder_layers": 2}
TABLES: dict[str, dict[str, Any]] = {
    "teacher": {**SHAPE, "members": 2},
    "teacher_train": {"steps": 4, "batch_size": 8, "validate_every": 2, "validation_rows": 3},
    "imagine": {"draws": 2},
    "imagine_train": {"steps": 2, "batch_size": 8},
    "label": {"max_new_tokens": 4},
    "filter": {"wrong": "reference", "unlabelled": "reference"},
    "student": {"encoder_layers": 1, "decoder_layers": 1},
    "train": {"steps": 2, "batch_size": 8, "divergence": 1.0, "validate_every": 2, "validation_rows": 3, "judged_by": "chrf"},
    "plain_train": {"steps": 2, "batch_size": 8},
    "verify": {"rows": 3, "allow_degraded": True},
    "table": {"latency_rows": 3, "resamples": 20},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from nothing up to the table."""
    directory = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        pronunciations(directory / "files", patch)
        recipe = Recipe(name="tiny-g2p", task="g2p-en-us", description="", tables=TABLES, text="", data=directory / "files")
        run_recipe(recipe, directory / "run", until="table")
    return directory / "run"


@pytest.fixture
def table(run: Path) -> dict[str, Any]:
    """The result file."""
    value: dict[str, Any] = json.loads((run / "table.json").read_text(encoding="utf-8"))
    return value


def table_again(directory: Path) -> dict[str, Any]:
    """What the stage makes of a run whose models are others now."""
    recipe = Recipe(name="tiny-g2p", task="g2p-en-us", description="", tables=TABLES, text="")
    next(stage for stage in _installed() if stage.name == "table").run(recipe, directory)
    value: dict[str, Any] = json.loads((directory / "table.json").read_text(encoding="utf-8"))
    return value


def by_label(table: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(model["name"], model["runtime"], model["precision"]): model for model in table["models"]}


def test_all_models_stand_in_the_table(table: dict[str, Any]) -> None:
    """Teacher, student, the students of the bundle, and the plain one, each with its scores, size and time."""
    models = by_label(table)
    teacher, student, full, rounded, plain = models.values()
    assert list(models) == [
        ("teacher", "pytorch", "fp32"),
        ("student", "pytorch", "fp32"),
        ("student", "onnx", "fp32"),
        ("student-int8", "onnx", "int8"),
        ("plain", "pytorch", "fp32"),
    ]
    assert student["parameters"] == full["parameters"] == plain["parameters"] < teacher["parameters"]
    assert rounded["size_bytes"] < full["size_bytes"]
    assert full["scores"] == student["scores"]  # the same weights in the same precision
    for model in models.values():
        assert [(score["name"], score["n"]) for score in model["scores"]] == [("wer", 8), ("per", 8)]
        assert 0 < model["latency_ms"]["p50"] <= model["latency_ms"]["p95"]


def test_what_was_trained_says_how(table: dict[str, Any]) -> None:
    """Seed, updates, hardware, members and the course of the validations; int8 weights were not trained."""
    models = by_label(table)
    assert {label for label, model in models.items() if model["training"] is None} == {
        ("student", "onnx", "fp32"),
        ("student-int8", "onnx", "int8"),
    }
    training = {name: model["training"] for (name, runtime, _), model in models.items() if runtime == "pytorch"}
    assert training["teacher"]["seed"] == 0
    assert (training["teacher"]["members"], training["teacher"]["member_steps"]) == (2, [4, 4])
    assert training["teacher"]["steps"] == training["teacher"]["planned_steps"] == 4
    assert training["teacher"]["passes"] == 4 * 8 / 40
    assert [found["step"] for found in training["teacher"]["validations"]] == [2, 4]
    assert set(training["student"]["validations"][0]) == {"step", "exact_match", "chrf"}
    assert training["student"]["best_validation_chrf"] == training["student"]["validations"][0]["chrf"]
    assert training["plain"]["validations"] == []


def test_the_goals_are_held_against_what_was_found(table: dict[str, Any]) -> None:
    """Nothing that little training makes reaches the published baseline, and its size is far under the bar."""
    claims = {claim["what"]: claim for claim in table["claims"]}
    assert not claims["word errors of SIGMORPHON 2021 ensembled baseline"]["holds"]
    assert claims["size"]["holds"]
    assert set(claims) >= {
        "quality of the teacher's",
        "smaller than the teacher",
        "faster than the teacher in PyTorch",
        "ahead of a plain student trained as long",
    }
    assert table["published"][0] == {"system": "SIGMORPHON 2021 ensembled baseline", "scores": {"wer": 41.94}, "note": ""}


def test_a_readme_shows_the_table(table: dict[str, Any]) -> None:
    """A row for each model and for each published result, and what was reached."""
    lines = tables_block([table]).splitlines()
    assert lines[1] == "**tiny-g2p**, 8 test rows"
    assert lines[3] == "| | parameters | MB | word errors | phone errors | ms p50 |"
    assert [line.split("|")[1].strip() for line in lines[5:10]] == [
        "teacher (pytorch, fp32)",
        "student (pytorch, fp32)",
        "student (onnx, fp32)",
        "student-int8 (onnx, int8)",
        "plain (pytorch, fp32)",
    ]
    assert lines[10] == "| *SIGMORPHON 2021 ensembled baseline* | | | 41.94 |  | |"
    assert any(line.startswith("Not reached: ") and "≤ 41.94" in line for line in lines)
    assert "| trained | updates | passes | hours | seed and machine | validation by chrF |" in lines
    assert any(line.startswith("| teacher | 2 × 4 | 0.8 | 0.0") and "| seed 0, 1 thread of " in line for line in lines)


def test_a_table_of_part_of_the_test_split_is_refused(run: Path) -> None:
    """Evaluations that stopped early would compare with nothing."""
    path = run / "evaluation/teacher.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    recipe = Recipe(name="tiny-g2p", task="g2p-en-us", description="", tables=TABLES, text="")
    try:
        write_json(path, {**whole, "predictions": whole["predictions"][:5]})
        with pytest.raises(
            DataError, match=r"expected answers to all 8 rows of the test split in order, found 5.*leave 'rows' out"
        ):
            next(stage for stage in _installed() if stage.name == "table").run(recipe, run)
    finally:
        write_json(path, whole)


@pytest.mark.parametrize("name", ["latency_rows", "resamples"])
def test_a_table_of_no_rows_or_samples_is_refused(name: str) -> None:
    """There is no median of nothing; the end of a run would be the wrong place to learn that."""
    with pytest.raises(RecipeError, match=rf"\[table\]: expected {name} of 1 or more, found 0"):
        TableSettings(**{name: 0})


def test_a_teacher_of_unlike_members_is_not_said_to_be_one_training(run: Path, tmp_path: Path) -> None:
    """A student among its own teachers had other updates than they, and no line of the table can tell all."""
    again = tmp_path / "again"
    shutil.copytree(run, again)
    shutil.rmtree(again / "teacher")
    write_ensemble([run / "student", run / "teacher.members/1"], again / "teacher")
    teacher = table_again(again)["models"][0]
    assert (teacher["name"], teacher["training"]) == ("teacher", None)


def test_a_teacher_from_elsewhere_tells_no_training(run: Path, tmp_path: Path) -> None:
    """Its card has none, as that of a model from a hub."""
    again = tmp_path / "again"
    shutil.copytree(run, again)
    shutil.rmtree(again / "teacher")
    shutil.copytree(run / "teacher.members/1", again / "teacher")
    replace(CheckpointCard.read(again / "teacher"), recipe={}, training={}).write(again / "teacher")
    table = table_again(again)
    assert table["models"][0]["training"] is None
    assert "| trained |" in tables_block([table])


def test_updates_before_the_last_training_are_told_as_well(run: Path, tmp_path: Path) -> None:
    """A member that was trained on from where it stood: with the passes and the minutes of both trainings."""
    again = tmp_path / "run"
    shutil.copytree(run, again)
    shutil.rmtree(again / "teacher")
    first, second = again / "teacher.members/1", again / "teacher.members/2"
    card = CheckpointCard.read(first)
    before = {"data": card.data, "recipe": card.recipe, "training": {"steps": 6, "minutes": 1.5}}
    replace(card, training={**card.training, "minutes": 1.0, "before": before}).write(first)
    write_ensemble([first, second], again / "teacher")
    told = table_again(again)["models"][0]["training"]
    assert (told["steps"], told["earlier_steps"], told["member_steps"]) == (4, 6, [10, 4])
    assert told["passes"] == (4 + 6) * 8 / 40
    assert told["minutes"] == 2.5 + CheckpointCard.read(second).training["minutes"]
    assert "before" not in told


def test_members_that_were_trained_on_from_one_teacher_are_told(run: Path, tmp_path: Path) -> None:
    """Of all members the updates, as of members that were trained from nothing."""
    again, data = Path(shutil.copytree(run, tmp_path / "run")), Data.of_run(run, "data")
    shutil.rmtree(again / "teacher")
    settings = TeacherSettings(start=str(run / "teacher.members/1"), members=2)
    card, plan = CheckpointCard.read(run / "teacher"), TrainingPlan(steps=3, batch_size=8)
    train_teachers(data, again / "teacher", card=card, settings=settings, plan=plan, recipe_name="further")
    told = table_again(again)["models"][0]["training"]
    assert (told["members"], told["member_steps"], told["earlier_steps"]) == (2, [7, 7], 4)


def test_a_plain_student_may_begin_as_the_distilled_one_does(run: Path, tmp_path: Path) -> None:
    """Cut from the first member; its dropout is the teacher's all the same."""
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/plain")
    still = {"steps": 1, "batch_size": 8, "learning_rate": 1e-9}
    student = {**TABLES["student"], "dropout": 0.5}
    tables = {**TABLES, "student": student, "plain": {"start": "student"}, "plain_train": still}
    stages.PLAIN.run(Recipe(name="tiny-g2p", task="g2p-en-us", description="", tables=tables, text=""), tmp_path / "run")
    made, first = (TeacherModel.load(tmp_path / "run" / name).model for name in ("plain", "teacher.members/1"))
    theirs = first.state_dict()
    assert all(torch.allclose(weight, theirs[name], atol=1e-6) for name, weight in made.state_dict().items() if "block.0" in name)
    assert made.config.dropout_rate == first.config.dropout_rate


def test_recipes_without_a_published_task_have_a_table_and_a_plain_student_where_they_ask() -> None:
    """A demo asks for neither."""
    recipe = Recipe(name="fix", task="python-fix", description="", tables={}, text="")
    asked = [stage.name for stage in _installed() if stage.applies(recipe)]
    assert "table" not in asked
    assert "plain" not in asked
    wanted = replace(recipe, tables={"plain_train": {"steps": 1}, "table": {}})
    assert {"plain", "table"} <= {stage.name for stage in _installed() if stage.applies(wanted)}


def test_completion_of_lines_goes_from_nothing_to_its_table(tmp_path: Path) -> None:
    """The recipe as it ships, but for its sizes: rows out of the standard library, and a table without published rows or bars."""
    ships, sizes = Recipe.read("python-line"), {**TABLES, "corpus": {"share": 0.05, "rows_per_file": 5, "held_out_rows": 12}}
    tables = {name: {**ships.table(name), **sizes.get(name, {})} for name in {*ships.tables, "plain_train"} - {"calibrate"}}
    tables["corpus"] |= {"passes": 1, "train_rows": 80}
    tables["evaluate"] = {"latency_rows": 2}
    tables["label"] |= {"rows": 40}
    run_recipe(replace(ships, tables=tables), tmp_path / "run", until="table")
    table = json.loads((tmp_path / "run/table.json").read_text(encoding="utf-8"))
    assert (table["protocol"], table["published"]) == ("whole-answers", [])
    assert table["origin"].startswith("the standard library of Python 3.")
    assert [score["name"] for score in table["models"][0]["scores"]] == ["exact_match", "edit_similarity"]
    assert len(table["models"]) == 5
    assert [claim["what"] for claim in table["claims"]][-1] == "ahead of a plain student trained as long"
    assert f"**python-line**, {table['test_rows']} test rows" in tables_block([table])


def test_a_causal_teacher_goes_all_the_way_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What labelled stands in the teacher's row, by its own answers and its own time; it tells no sizes, so none are compared."""
    pronunciations(tmp_path / "files", monkeypatch)
    causal = {"checkpoint": str(make_causal(tmp_path / "gpt", ["word: ab\nsounds: ɑ t͡ʃ"])), "prompt": "{word} sounds "}
    tables = {
        **TABLES,
        "teacher": {**SHAPE, "causal": {**causal, "max_new_tokens": 4}},
        "train": {**TABLES["train"], "divergence": 0.0},
        "evaluate": {"latency_rows": 2},
    }
    recipe = Recipe(name="tiny-g2p", task="g2p-en-us", description="", tables=tables, text="", data=tmp_path / "files")
    run_recipe(recipe, tmp_path / "run", until="table")
    table = json.loads((tmp_path / "run/table.json").read_text(encoding="utf-8"))
    teacher = table["models"][0]
    assert (teacher["name"], teacher["runtime"], teacher["precision"]) == ("teacher", "causal", "through text")
    assert (teacher["parameters"], teacher["size_bytes"], teacher["training"]) == (None, None, None)
    assert teacher["latency_ms"]["p50"] > 0
    labelled = json.loads((tmp_path / "run/labels/train.meta.json").read_text(encoding="utf-8"))
    evaluated = json.loads((tmp_path / "run/evaluation/teacher.json").read_text(encoding="utf-8"))
    assert labelled["teacher"] == CausalTeacher(CausalSettings(**causal, max_new_tokens=4)).id
    assert teacher["scores"][0]["n"] == len(evaluated["predictions"]) == 8
    claimed = [claim["what"] for claim in table["claims"]]
    assert "quality of the teacher's" in claimed
    assert "smaller than the teacher" not in claimed
    assert "teacher (causal, through text)" in tables_block([table])


def _installed() -> list[Any]:
    from pocketseq.pipeline import find_stages

    return find_stages()

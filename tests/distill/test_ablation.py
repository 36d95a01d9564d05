"""One setting at several values, the rest the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pocketseq.cli import main
from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import write_examples
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe
from pocketseq_distill import ablation, reading
from pocketseq_distill.ablation import _Asked, _Bench, _with_cloud, vary
from pocketseq_distill.commands.ablate import read_setting
from pocketseq_distill.distil import Data
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.students.shapes import PRESETS, Shape
from pocketseq_distill.training.plan import TrainingPlan

from .models import repair_examples

RECIPE = """
[recipe]
name = "tiny"
task = "repair"
format = 1

[student]
encoder_layers = 1

[train]
steps = 900
batch_size = 8
divergence = 1.0
max_minutes = 60
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Rows, held-out rows and a recipe."""
    write_examples(tmp_path / "rows.jsonl", repair_examples(24))
    write_examples(tmp_path / "held-out.jsonl", repair_examples(12, seed=1))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path


def ablate(files: Path, teacher: Path, vary: str, *more: str) -> dict[str, Any]:
    arguments = ["--validation", str(files / "held-out.jsonl"), "--recipe", str(files / "tiny.toml"), "--steps", "4"]
    output = files / "result.json"
    rows = str(files / "rows.jsonl")
    given = ["ablate", str(teacher), rows, *arguments, "--vary", vary, "--validate-every", "2", *more, "-o", str(output)]
    assert main(given) == 0
    document: dict[str, Any] = json.loads(output.read_text())
    return document


def test_starts_are_measured_side_by_side(files: Path, teacher_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A curve by seed, quality, confidence and what rounding leaves with intervals, and the difference; no state stays."""
    document = ablate(files, teacher_path, "student.start=copied,random", "--seeds", "2")
    assert document["setting"] == "student.start"
    copied, random = document["outcomes"]
    assert (copied["value"], random["value"]) == ("copied", "random")
    assert copied["over_first"] is None
    for outcome in (copied, random):
        assert [training["seed"] for training in outcome["trainings"]] == [0, 1]
        for training in outcome["trainings"]:
            assert [point["step"] for point in training["curve"]] == [0, 2, 4]
        for measures in filter(None, (outcome["mean"], outcome["over_first"])):
            for name in ("exact_match", "int8_exact_match", "auroc", "deferral_area", "with_cloud"):
                assert measures[name]["low"] <= measures[name]["value"] <= measures[name]["high"]
    exact_match = {name: outcome["mean"]["exact_match"]["value"] for name, outcome in (("copied", copied), ("random", random))}
    assert random["over_first"]["exact_match"]["value"] == pytest.approx(exact_match["random"] - exact_match["copied"])
    assert {path.name for path in files.iterdir()} == {"rows.jsonl", "held-out.jsonl", "tiny.toml", "result.json"}
    assert "random" in capsys.readouterr().out


def test_the_same_value_twice_gives_the_same_twice(files: Path, teacher_path: Path) -> None:
    """Seed, order and plan do not depend on the value's place, and the difference is none."""
    one, other = ablate(files, teacher_path, "train.doubt=0.5,0.5")["outcomes"]
    assert (one["trainings"], one["mean"]) == (other["trainings"], other["mean"])
    assert set(other["over_first"]["exact_match"].values()) == {0.0}


@pytest.mark.parametrize(("setting", "why"), [("train.seed", "as many as --seeds says"), ("train.patience", "stops sooner")])
def test_what_all_values_share_is_not_varied(
    files: Path, teacher_path: Path, capsys: pytest.CaptureFixture[str], setting: str, why: str
) -> None:
    """Two values of it would come out as one, and their difference as none."""
    given = [str(files / "rows.jsonl"), "--validation", str(files / "held-out.jsonl"), "--recipe", str(files / "tiny.toml")]
    given += ["--vary", f"{setting}=1,2", "--steps", "4", "-o", str(files / "result.json")]
    assert main(["ablate", str(teacher_path), *given]) == 2
    told = capsys.readouterr().err
    assert f"expected a setting that an ablation leaves to its values, found '{setting}'; " in told
    assert why in told


def test_the_result_tells_the_plan_that_was_followed(files: Path, teacher_path: Path) -> None:
    """Without what of the recipe would have let one training stop sooner than another."""
    with (files / "tiny.toml").open("a") as file:
        file.write("patience = 3\n")
    document = ablate(files, teacher_path, "train.doubt=0.0")
    assert document["train"] == {"steps": 4, "batch_size": 8, "divergence": 1.0, "validate_every": 2}


def test_a_killed_student_of_another_value_is_not_measured(
    files: Path, teacher_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders are numbered, and what an ablation of other values left in one is not taken for its own."""
    with monkeypatch.context() as killed:
        killed.setattr("pocketseq_distill.ablation.shutil", SimpleNamespace(rmtree=lambda *_, **__: None))
        ablate(files, teacher_path, "student.start=copied")
        assert (files / "result.training/0-0").is_dir()
    ablate(files, teacher_path, "student.start=random")
    assert "0-0: what was trained there began from something else" in capsys.readouterr().err


def test_values_that_are_through_are_not_trained_again(files: Path, teacher_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the training of the last value, the same call goes on with it."""
    make = ablation.student_as_read

    def dies(teacher: Any, settings: StudentSettings, *more: Any, **named: Any) -> Any:
        if settings.start == "random":
            raise KeyboardInterrupt
        return make(teacher, settings, *more, **named)

    recipe = Recipe.read(files / "tiny.toml")
    recipe = replace(recipe, tables={**recipe.tables, "train": {"steps": 4, "batch_size": 8, "validate_every": 2}})
    data = Data(repair_examples(24), repair_examples(12, seed=1), "f")

    def again() -> list[ablation.Outcome]:
        return vary(recipe, "student.start", ["copied", "random"], teacher_path=teacher_path, data=data, folder=files / "state")

    with monkeypatch.context() as killed:
        killed.setattr(ablation, "student_as_read", dies)
        with pytest.raises(KeyboardInterrupt):
            again()
    made = (files / "state/0-0/checkpoint-4/model.safetensors").stat().st_mtime_ns
    with monkeypatch.context() as kept:
        kept.setattr(ablation, "shutil", SimpleNamespace(rmtree=lambda *_, **__: None))
        outcomes = again()
    assert (files / "state/0-0/checkpoint-4/model.safetensors").stat().st_mtime_ns == made
    assert [len(one.trainings[0].curve) for one in outcomes] == [3, 3]


def test_rows_that_are_trained_on_measure_nothing(files: Path, teacher_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are left out and counted before rows are limited; where all are trained on, there is nothing to measure on."""
    held_out, learnt = repair_examples(12, seed=1), repair_examples(4)
    write_examples(files / "held-out.jsonl", [*learnt, *held_out])
    document = ablate(files, teacher_path, "train.doubt=0.0", "--rows", "8")
    assert document["validation_rows"] == 8
    assert "left out of validation: 4 of 16 rows, whose inputs are trained on" in capsys.readouterr().err
    recipe = Recipe.read(files / "tiny.toml")
    with pytest.raises(DataError, match="expected validation rows that are not trained on, found the inputs of all 4"):
        vary(recipe, "train.doubt", [0.0], teacher_path=teacher_path, data=Data(learnt, learnt, "f"), folder=files / "state")


def test_distributions_beforehand_and_rounded_updates_can_be_varied(files: Path, teacher_path: Path) -> None:
    """The plan holds as a training's own does: distributions are computed once, rounded updates are judged beside plain ones."""
    with (files / "tiny.toml").open("a") as file:
        file.write("top_k = 4\n")
    none, some = ablate(files, teacher_path, "train.int8_steps=0,2")["outcomes"]
    assert none["trainings"][0]["int8"] is None
    assert set(some["trainings"][0]["int8"]) == {"trained", "longer", "rounded", "kept"}


def test_the_least_likely_go_to_a_cloud_that_is_right() -> None:
    """Of ten answers the three with the least confidence are handed over; resampled as counted."""
    asked = _Asked(np.array([0.0, 0, 1, 0, 1, 1, 1, 1, 1, 1]), np.arange(10.0))
    assert _with_cloud(asked, None) == pytest.approx(0.9)
    once = np.ones((1, 10))
    thrice = np.array([[3.0, 0, 0, 3, 1, 1, 1, 1, 0, 0]])  # three of the wrong ones are handed over, three are not
    assert _with_cloud(asked, np.concatenate([once, thrice])) == pytest.approx([0.9, 0.7])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.doubt=0.0,0.5", ("train.doubt", [0.0, 0.5])),
        ("student.start=copied,random", ("student.start", ["copied", "random"])),
        ("train.bf16=true,false", ("train.bf16", [True, False])),
    ],
)
def test_values_are_written_as_in_a_recipe(text: str, expected: tuple[str, list[object]]) -> None:
    """Bare words are strings."""
    assert read_setting(text) == expected


@pytest.mark.parametrize(
    ("text", "message"), [("train.doubt", "expected a setting and its values"), ("a.b=1..2", "as in a recipe")]
)
def test_what_is_no_setting_is_refused(text: str, message: str) -> None:
    """The error shows what one looks like."""
    with pytest.raises(RecipeError, match=message):
        read_setting(text)


@pytest.mark.parametrize(
    ("setting", "values", "found"),
    [
        ("train.spans", [0.0, 5.0], "spans are for a student with a vocabulary of its own"),
        ("student.vocab_size", [None, 340], "a student with a vocabulary of its own cannot be compared with its teacher"),
    ],
)
def test_losses_that_do_not_go_with_a_vocabulary_are_refused(
    files: Path, teacher_path: Path, setting: str, values: list[Any], found: str
) -> None:
    """Before the first value is trained."""
    recipe = Recipe.read(files / "tiny.toml")
    data = Data(repair_examples(8), repair_examples(4, seed=1), "f")
    with pytest.raises(RecipeError, match=found):
        vary(recipe, setting, values, teacher_path=teacher_path, data=data, folder=files / "state")
    assert not (files / "state").exists()


def test_spans_and_vocabularies_can_be_varied(files: Path, teacher_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each student reads its own tokens; those that read alike have the teacher asked for their spans once."""
    monkeypatch.setitem(PRESETS, "nano", Shape(encoder_layers=1, decoder_layers=1, d_model=8, d_ff=16, heads=2))
    asked = []
    spans = reading.teacher_spans
    monkeypatch.setattr(reading, "teacher_spans", lambda *given, **named: asked.append(1) or spans(*given, **named))
    text = RECIPE.replace("encoder_layers = 1", 'preset = "nano"\nvocab_size = 340').replace("divergence = 1.0", "spans = 1.0")
    (files / "tiny.toml").write_text(text)
    outcomes = ablate(files, teacher_path, "train.spans=0.0,1.0", "--seeds", "2")["outcomes"]
    assert [[training["curve"][-1]["step"] for training in outcome["trainings"]] for outcome in outcomes] == [[4, 4], [4, 4]]
    assert len(asked) == 1
    recipe = Recipe.read(files / "tiny.toml")
    bench = _Bench(teacher_path, Data(repair_examples(24), repair_examples(4, seed=1), "f"), files / "state")
    for size in (330, 340):
        settings = replace(recipe.settings("student", StudentSettings), vocab_size=size)
        own = bench.read(settings, TrainingPlan(steps=1))
        assert (own.tokenizer.size, own.tokenized.rows.spans) == (size, None)
    assert bench.read(settings, TrainingPlan(steps=1, spans=1.0)).tokenized.rows.spans is not None


def test_rows_begin_with_what_the_teacher_is_made_to_say(teacher_path: Path, tmp_path: Path) -> None:
    """As those of a student that is distilled."""
    teacher = Path(shutil.copytree(teacher_path, tmp_path / "teacher"))
    file = teacher / "generation_config.json"
    write_json(file, {**json.loads(file.read_text()), "forced_bos_token_id": 9})
    bench = _Bench(teacher, Data(repair_examples(8), repair_examples(4, seed=1), "f"), tmp_path / "state")
    rows = bench.read(StudentSettings(), TrainingPlan(steps=1)).tokenized.rows
    assert {int(rows[place]["labels"][0]) for place in range(len(rows))} == {9}

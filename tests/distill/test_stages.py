"""The stages of this room: files in, files out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import read_examples, write_examples
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe, run_recipe
from pocketseq_distill import stages
from pocketseq_distill.checkpoints import checkpoint_fingerprint, save_checkpoint
from pocketseq_distill.ensemble import Ensemble
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.imagining.stage import IMAGINED
from pocketseq_distill.labelling.function import FunctionTeacher
from pocketseq_distill.labelling.labels import LabelSettings, label_rows

from .models import TEMPLATE, repair_examples
from .weights import loud

RECIPE = Recipe(
    name="tiny",
    task="repair",
    description="",
    text="",
    tables={
        "label": {"rows": 16},
        "filter": {"wrong": "reference", "unlabelled": "reference"},
        "student": {"encoder_layers": 1, "decoder_layers": 1},
        "train": {"steps": 4, "batch_size": 8, "divergence": 1.0, "validate_every": 2, "validation_rows": 4},
        "evaluate": {"rows": 6, "latency_rows": 2},
    },
)


def test_label_filter_train_and_evaluate(run: Path) -> None:
    """Each writes exactly what it declares as its outputs, and the next reads it."""
    for stage in (stages.LABEL, stages.FILTER, stages.TRAIN, stages.EVALUATE):
        before = set(run.iterdir())
        stage.run(RECIPE, run)
        assert {path.name for path in set(run.iterdir()) - before} <= set(stage.outputs)
    assert len((run / "labels/train.jsonl").read_text().splitlines()) == 16
    assert len(list(read_examples(run / "filtered/train.jsonl"))) == 24
    assert json.loads((run / "filtered/counts.json").read_text())["kept"] == 24
    card = TeacherModel.load(run / "student").card
    assert card.data["fingerprint"] == "abc"
    assert card.recipe["name"] == "tiny"
    for name in ("teacher", "student"):
        evaluation = json.loads((run / f"evaluation/{name}.json").read_text())
        assert evaluation["n"] == 6
        assert evaluation["latency_ms"]["p50"] > 0


def test_a_stage_refuses_a_key_that_it_does_not_know(run: Path) -> None:
    """The error names recipe, table and key."""
    recipe = Recipe(name="tiny", task="repair", description="", text="", tables={"label": {"beam": 4}})
    with pytest.raises(RecipeError, match=r"recipe 'tiny': \[label\].*'beam'"):
        stages.LABEL.run(recipe, run)


@pytest.mark.parametrize(
    ("table", "value", "message"),
    [
        ("pairs", {"train": 5}, r"\[pairs\]: train: expected a list, found 5"),
        ("pairs", {"train": [5]}, r"\[pairs\]: train\[0\]: expected a string, found 5"),
        ("pairs", {}, r"\[pairs\]: expected the keys .*, found none of the name 'train'"),
        ("teacher", {"ensemble": "x"}, r"\[teacher\]: ensemble: expected an object, found str"),
        ("teacher", {"ensemble": {"members": 3}}, r"\[teacher\]: ensemble: members: expected a list, found 3"),
        ("teacher", {"checkpoint": 5}, r"\[teacher\]: checkpoint: expected a string, found 5"),
        ("label", {"reverse": 5}, r"\[label\]: reverse: expected a string, found 5"),
        ("student", {"decoder_layrs": 1}, r"\[student\]: .*found also \['decoder_layrs'\]"),
        ("plain_train", {"steps": 1, "divergence": 1.0}, r"\[plain_train\] is of a student that has no teacher"),
        ("train", {"steps": 1, "divergence": 1.0, "spans": 1.0}, "spans are for a student with a vocabulary of its own"),
        ("student", {"encoder_layers": 0}, r"\[student\]: expected encoder_layers of 1 or more, found 0"),
        ("filter", {"reverse_worst": 2.0}, r"\[filter\]: expected reverse_worst from 0 to below 1, found 2"),
        ("imagine_train", {"steps": 0}, "expected steps of 1 or more, found 0"),
        ("export", {"runtime": ["onnx"]}, r"\[export\]: .*found also \['runtime'\]"),
        ("table", {"latency": 3}, r"\[table\]: .*found also \['latency'\]"),
        ("calibrate", {"rsk": 0.2}, r"\[calibrate\]: .*found also \['rsk'\]"),
        ("calibrate", {"risk": 2.0}, r"\[calibrate\]: risk: expected .* found 2"),
        ("calibrate", {"loss": "bleu"}, r"\[calibrate\]: loss: expected exact, .* found 'bleu'"),
    ],
)
def test_every_table_of_a_run_is_read_before_its_first_stage(tmp_path: Path, table: str, value: object, message: str) -> None:
    """Hours of labelling and training do not end in a slip that could be seen at the start."""
    tables = {**RECIPE.tables, "teacher": {"checkpoint": "python-fix"}, "imagine": {}, "imagine_train": {"steps": 1}, table: value}
    with pytest.raises(RecipeError, match=message):
        run_recipe(replace(RECIPE, task="python-fix", tables=tables), tmp_path / "run", until="corpus")
    assert not (tmp_path / "run").exists()


def test_a_task_that_nobody_knows_is_told_before_anything_goes(tmp_path: Path) -> None:
    """Unless the recipe brings rows of its own, as a mistyped name would cost all that was made for the right one."""
    with pytest.raises(RecipeError, match="expected a task among .*'python-fix'.*, found 'pyhton-fix'"):
        run_recipe(replace(RECIPE, task="pyhton-fix"), tmp_path / "run", until="corpus")
    assert not (tmp_path / "run").exists()


def test_a_file_of_rows_that_is_not_there_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is called from another folder than before says where it looked, and is whole when called from the right one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text("source,target\n" + "".join(f"retrun x{n},return x{n}\n" for n in range(200)))
    recipe = replace(RECIPE, tables={"pairs": {"train": ["pairs.csv"]}})
    lines: list[str] = []
    run_recipe(recipe, tmp_path / "run", until="corpus", report=lines.append)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"\[pairs\]: expected files at \['pairs.csv'\], found none; .* now .*elsewhere"):
        run_recipe(recipe, tmp_path / "run", until="corpus", report=lines.append)
    monkeypatch.chdir(tmp_path)
    run_recipe(recipe, tmp_path / "run", until="corpus", report=lines.append)
    assert lines[-1] == "[1/1] corpus: unchanged, skipped"


def test_rows_that_owe_nothing_to_python_outlive_its_releases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what comes out of the library of the interpreter is other rows with another of these."""

    def inputs(task: str, **tables: dict[str, list[str]]) -> object:
        return stages.CORPUS.inputs(replace(RECIPE, task=task, tables=tables), tmp_path)

    pairs = tmp_path / "pairs.csv"
    pairs.touch()
    tried: list[tuple[str, dict[str, dict[str, list[str]]]]]
    tried = [("mine", {"pairs": {"train": [str(pairs)]}}), ("g2p-en-us", {}), ("python-fix", {})]
    before = [inputs(task, **tables) for task, tables in tried]
    monkeypatch.setattr("pocketseq_distill.corpus.stage.python_version", lambda: "3.99.9")
    assert [inputs(task, **tables) == earlier for (task, tables), earlier in zip(tried, before, strict=True)] == [True, True, False]


def test_a_run_labels_with_a_function_and_keeps_what_it_had(run: Path) -> None:
    """Labels of another teacher are put aside, and come back with it; counts and samples lie beside them."""
    function = "tests.distill.labelling.answers:upper"
    through_text = replace(RECIPE, tables={**RECIPE.tables, "teacher": {"function": function}})
    stages.LABEL.run(RECIPE, run)
    before = (run / "labels/train.jsonl").read_bytes()
    stages.LABEL.run(through_text, run)
    labels = [json.loads(line) for line in (run / "labels/train.jsonl").read_text().splitlines()]
    assert len(labels) == 16
    assert all(label["text"].isupper() for label in labels)
    assert json.loads((run / "labels/train.counts.json").read_text())["total"] == 16
    stages.LABEL.run(RECIPE, run)
    assert (run / "labels/train.jsonl").read_bytes() == before
    assert stages.LABEL.inputs(RECIPE, run) is None
    assert stages.LABEL.inputs(through_text, run) == [None, FunctionTeacher(function).id]
    stages.FILTER.run(through_text, run)
    told = r"\[train\] has the answers alone of a teacher through text: expected divergence = 0"
    with pytest.raises(RecipeError, match=told):
        stages.TRAIN.run(through_text, run)
    through_text = replace(through_text, tables={**through_text.tables, "teacher_train": {"steps": 1}})
    with pytest.raises(RecipeError, match=told):  # before answers are paid for
        run_recipe(replace(through_text, task="python-fix"), run / "another", until="label")
    assert not (run / "another").exists()


def test_the_teacher_that_labelled_is_the_one_that_is_evaluated(run: Path) -> None:
    """A function answers for itself, is timed, and tells no sizes; a row that it declines counts as wrong."""
    rows = list(read_examples(run / "data/test.jsonl"))[:6]
    given = [row.fields["line"].upper() if len(row.fields["line"]) % 2 else "" for row in rows]
    silent = given.count("")
    assert 0 < silent < 6
    tables = {**RECIPE.tables, "teacher": {"function": "tests.distill.labelling.answers:choosy"}}
    shutil.copytree(run / "teacher", run / "student")
    stages.EVALUATE.run(replace(RECIPE, tables=tables), run)
    teacher, student = (json.loads((run / f"evaluation/{name}.json").read_text()) for name in ("teacher", "student"))
    texts = [prediction["text"] for prediction in teacher["predictions"]]
    assert texts == given
    assert (teacher["n"], teacher["exact_match"]) == (6, sum(text == row.target for text, row in zip(given, rows, strict=True)) / 6)
    assert (teacher["runtime"], teacher["parameters"], teacher["size_bytes"]) == ("function", None, None)
    assert teacher["latency_ms"]["p50"] > 0
    assert "does not tell how large it is" in teacher["note"]
    assert f"{silent} rows without an answer count as wrong" in teacher["note"]
    assert set(student) <= set(teacher)


def test_an_endpoint_is_judged_by_labels_alone(run: Path) -> None:
    """Nothing is asked that costs money: labels of held-out rows are judged, and where there are none the note says so."""
    tables = {**RECIPE.tables, "teacher": {"endpoint": {"url": "http://127.0.0.1:9/v1", "model": "m"}}}
    recipe = replace(RECIPE, tables=tables)
    shutil.copytree(run / "teacher", run / "student")
    stages.EVALUATE.run(recipe, run)
    empty = json.loads((run / "evaluation/teacher.json").read_text())
    assert (empty["n"], empty["exact_match"], empty["latency_ms"]) == (0, None, None)
    assert "label them into labels/test.jsonl" in empty["note"]
    before = stages.EVALUATE.inputs(recipe, run)
    rows = list(read_examples(run / "data/test.jsonl"))
    label_rows(rows[:4], FunctionTeacher("tests.distill.labelling.answers:upper"), run / "labels/test.jsonl", LabelSettings())
    assert stages.EVALUATE.inputs(recipe, run) != before
    stages.EVALUATE.run(recipe, run)
    judged = json.loads((run / "evaluation/teacher.json").read_text())
    assert judged["n"] == 4
    assert [prediction["text"] for prediction in judged["predictions"]] == [row.fields["line"].upper() for row in rows[:4]]
    assert "judged by its labels of 4 of 6 rows" in judged["note"]


def test_rows_that_an_endpoint_refused_count_as_wrong(run: Path) -> None:
    """As those that a function declines do; an empty answer is one, and may be right."""
    labels, rows = run / "labels/test.jsonl", list(read_examples(run / "data/test.jsonl"))[:6]
    label_rows(rows, FunctionTeacher("tests.distill.labelling.answers:terse"), labels, LabelSettings())
    silent = sum(len(row.fields["line"]) % 2 == 0 for row in rows)
    tables = {**RECIPE.tables, "teacher": {"endpoint": {"url": "http://127.0.0.1:9/v1", "model": "m"}}}
    shutil.copytree(run / "teacher", run / "student")
    stages.EVALUATE.run(replace(RECIPE, tables=tables), run)
    judged = json.loads((run / "evaluation/teacher.json").read_text())
    assert 0 < silent < judged["n"] == len(rows)
    assert f"{silent} rows without an answer count as wrong" in judged["note"]


def test_a_run_joins_an_ensemble(run: Path, teacher_path: Path) -> None:
    """What the other stages find as the teacher is all of its members."""
    shutil.rmtree(run / "teacher")
    members = {"ensemble": {"members": [str(teacher_path), str(teacher_path)], "average": "log_probabilities"}}
    recipe = replace(RECIPE, tables={**RECIPE.tables, "teacher": members})
    stages.TEACHER.run(recipe, run)
    assert isinstance(TeacherModel.load(run / "teacher").model, Ensemble)
    for stage in (stages.LABEL, stages.FILTER, stages.TRAIN, stages.EVALUATE):
        stage.run(recipe, run)
    assert stages.TEACHER.inputs(recipe, run) == [checkpoint_fingerprint(teacher_path)] * 2
    sizes = [json.loads((run / f"evaluation/{name}.json").read_text())["size_bytes"] for name in ("teacher", "student")]
    assert sizes[0] > 2 * sizes[1]


def test_a_run_trains_the_members_of_its_teacher(run: Path) -> None:
    """Each from a seed of its own, with one vocabulary; the stage, called again, comes to the same."""
    shutil.rmtree(run / "teacher")
    corpus = {"fingerprint": "abc", "template": TEMPLATE.to_json(), "max_new_tokens": 8}
    write_json(run / "data/corpus.json", corpus)
    shape = {"vocab_size": 360, "d_model": 16, "d_ff": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    tables = {"teacher": {**shape, "members": 2}, "teacher_train": {"steps": 2, "batch_size": 8, "seed": 5}}
    recipe = replace(RECIPE, tables={**RECIPE.tables, **tables})
    stages.TEACHER.run(recipe, run)
    teacher = TeacherModel.load(run / "teacher")
    assert isinstance(teacher.model, Ensemble)
    cards = [CheckpointCard.read(run / f"teacher.members/{number}") for number in (1, 2)]
    assert [card.recipe["teacher_train"]["seed"] for card in cards] == [5, 6]
    one, other = (member.state_dict() for member in teacher.model.members)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    before = checkpoint_fingerprint(run / "teacher")
    stages.TEACHER.run(recipe, run)
    assert checkpoint_fingerprint(run / "teacher") == before


def test_imagined_inputs_are_labelled_and_learnt_from(run: Path) -> None:
    """The teacher is asked about all of them, and what it answers is kept, whatever the answer that they were drawn from."""
    rows = repair_examples(6, seed=9)
    write_examples(run / IMAGINED, [replace(row, id=f"{row.id}~1", target="other") for row in rows])
    recipe = replace(RECIPE, tables={**RECIPE.tables, "label": {"rows": 4}, "imagine": {"draws": 1}})
    stages.LABEL.run(recipe, run)
    assert len((run / "labels/train.jsonl").read_text().splitlines()) == 4
    labels = [json.loads(line) for line in (run / "labels/imagined.jsonl").read_text().splitlines()]
    assert [label["id"] for label in labels] == [f"{row.id}~1" for row in rows]
    stages.FILTER.run(recipe, run)
    counts = json.loads((run / "filtered/counts.json").read_text())
    assert counts["kept"] == 24
    whole = [label for label in labels if label["text"].strip() and label["finish_reason"] == "stop"]
    assert counts["imagined"]["kept"] + counts["imagined"]["removed"].get("duplicate", 0) == len(whole)
    learnt = list(read_examples(run / "filtered/train.jsonl"))
    assert len(learnt) == 24 + counts["imagined"]["kept"]
    assert all(row.target != "other" for row in learnt)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ({"checkpoint": "python-fix", "members": 2}, "expected members of 1 or more, for teachers that are trained, found 2"),
        ({"function": "a:b", "causal": {"checkpoint": "x", "prompt": "{line}"}}, "expected one teacher through text, found"),
        ({"checkpoint": "python-fix", "start": "python-fix"}, "expected checkpoint, which is taken as it is, or start"),
        ({"trim": True}, "expected a checkpoint beside trim"),
        ({"ensemble": {"members": ["a", "b"]}, "trim": True}, "expected ensemble alone, found checkpoint, start or trim"),
        ({"endpoint": {"url": "https://host/v1"}}, "'model'"),
    ],
)
def test_a_teacher_that_contradicts_itself_is_refused(run: Path, teacher: dict[str, object], words: str) -> None:
    """Before anything is labelled."""
    with pytest.raises(RecipeError, match=words):
        stages.LABEL.run(replace(RECIPE, tables={"teacher": teacher}), run)


def test_a_run_trims_its_teacher_to_its_corpus(run: Path, teacher_path: Path) -> None:
    """What the other stages find as the teacher has the corpus's tokens only, and answers in the same template."""
    shutil.rmtree(run / "teacher")
    write_examples(run / "data/train.jsonl", repair_examples(2))
    recipe = replace(RECIPE, tables={"teacher": {"checkpoint": str(teacher_path), "trim": True}})
    stages.TEACHER.run(recipe, run)
    whole, trimmed = TeacherModel.load(teacher_path), TeacherModel.load(run / "teacher")
    assert trimmed.model.config.vocab_size < whole.model.config.vocab_size
    assert trimmed.card.template == whole.card.template
    stages.LABEL.run(RECIPE, run)
    assert len((run / "labels/train.jsonl").read_text().splitlines()) == 2


def test_a_teacher_that_another_begins_as_may_be_replaced_under_its_name(run: Path, teacher_path: Path, tmp_path: Path) -> None:
    """Its fingerprint is among what the stage depends on, as is that of one that is taken as it is."""
    start = Path(shutil.copytree(teacher_path, tmp_path / "start"))
    recipe = replace(RECIPE, tables={**RECIPE.tables, "teacher": {"start": str(start)}})
    before = stages.TEACHER.inputs(recipe, run)
    model = TeacherModel.load(start)
    save_checkpoint(loud(model.model), start, card=model.card, tokenizer=teacher_path)
    assert before != stages.TEACHER.inputs(recipe, run)


def test_rounded_updates_are_for_what_is_exported(run: Path) -> None:
    """A teacher would not hear of them."""
    recipe = replace(RECIPE, tables={"teacher_train": {"steps": 2, "validate_every": 1, "int8_steps": 2}})
    with pytest.raises(RecipeError, match=r"\[teacher_train\]: expected int8_steps = 0"):
        stages.TEACHER.run(recipe, run)


@pytest.mark.parametrize("loss", ["divergence", "hidden", "attention", "spans"])
@pytest.mark.parametrize("table", ["teacher_train", "plain_train"])
def test_what_has_no_teacher_learns_from_none(run: Path, table: str, loss: str) -> None:
    """Each loss that needs one is refused, not left out, and a plain student stays plain."""
    stage = stages.TEACHER if table == "teacher_train" else stages.PLAIN
    recipe = replace(RECIPE, tables={"teacher": {}, "student": {}, table: {"steps": 2, loss: 1.0}})
    with pytest.raises(RecipeError, match=rf"\[{table}\] is of .* no teacher.*: expected {loss} = 0"):
        stage.run(recipe, run)

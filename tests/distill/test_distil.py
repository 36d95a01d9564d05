"""From a teacher and rows to a student on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import RecipeError, TrainingError
from pocketseq.examples import Example
from pocketseq.files import write_json
from pocketseq.template import Field, Template
from pocketseq_distill.checkpoints import checkpoint_fingerprint
from pocketseq_distill.distil import Data, distil
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.reading import read_rows
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.students.shapes import PRESETS, Shape
from pocketseq_distill.training.plan import TrainingPlan

from .models import WORDS, make_checkpoint, repair_examples

DATA = Data(train=repair_examples(64), validation=repair_examples(8, seed=1), fingerprint="f")
PLAN = TrainingPlan(steps=6, batch_size=16, divergence=1.0, validate_every=3, warmup_steps=2)
STUDENT = StudentSettings(encoder_layers=1, decoder_layers=1)


def test_a_student_is_an_ordinary_checkpoint_with_its_story(teacher_path: Path, tmp_path: Path) -> None:
    """Smaller than its teacher, of the same template, with teacher, data, recipe and training on the card."""
    distil(teacher_path, DATA, tmp_path / "student", student=STUDENT, plan=PLAN, recipe_name="tiny")
    student, teacher = TeacherModel.load(tmp_path / "student"), TeacherModel.load(teacher_path)
    card = student.card
    assert card.template == teacher.card.template
    assert card.license == "Apache-2.0"
    assert card.teacher == checkpoint_fingerprint(teacher_path)
    assert card.data == {"fingerprint": "f", "rows": 64, "inexpressible": 0, "too_long": 0, "cut": 0}
    assert card.recipe["name"] == "tiny"
    assert card.recipe["train"]["divergence"] == 1.0
    assert card.training["steps"] == 6
    assert 0 <= card.training["best_validation_exact_match"] <= 1
    assert student.model.config.num_layers == student.model.config.num_decoder_layers == 1
    assert sum(p.numel() for p in student.model.parameters()) < sum(p.numel() for p in teacher.model.parameters())
    assert isinstance(student.answer(["for valu"])[0].text, str)


def test_nothing_but_the_student_is_left(teacher_path: Path, tmp_path: Path) -> None:
    """What a killed training would have needed is removed, unless a longer one is to go on from it."""
    distil(teacher_path, DATA, tmp_path / "student", student=STUDENT, plan=PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    distil(teacher_path, DATA, tmp_path / "student", student=STUDENT, plan=PLAN, keep_state=True)
    longer = replace(PLAN, steps=9)
    card = distil(teacher_path, DATA, tmp_path / "student", student=STUDENT, plan=longer)
    assert card.training["steps"] == 9
    assert CheckpointCard.read(tmp_path / "student").training["steps"] == 9


def test_a_student_of_other_settings_starts_over(teacher_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an earlier student of the same shape left is not taken for it, and that is said; its own goes on in silence."""
    standing = replace(PLAN, learning_rate=0.0, weight_decay=0.0)
    teacher = TeacherModel.load(teacher_path).model.state_dict()
    settings = [StudentSettings(encoder_indices=(layer,)) for layer in (0, 1)]
    settings.append(replace(settings[0], start="random"))
    gates: list[torch.Tensor] = []
    for student, told in zip((*settings, settings[2]), (False, True, True, False), strict=True):
        card = distil(teacher_path, DATA, tmp_path / "student", student=student, plan=standing, keep_state=True)
        assert card.training["steps"] == standing.steps
        assert ("what was trained there began from something else" in capsys.readouterr().err) == told
        weights = TeacherModel.load(tmp_path / "student").model.state_dict()
        gates.append(weights["encoder.block.0.layer.1.DenseReluDense.wi.weight"])
    for layer in (0, 1):
        assert torch.equal(gates[layer], teacher[f"encoder.block.{layer}.layer.1.DenseReluDense.wi.weight"])
    assert not any(torch.equal(gates[2], gates[layer]) for layer in (0, 1))
    assert torch.equal(gates[3], gates[2])


def test_a_student_cannot_have_more_layers_than_its_teacher(teacher_path: Path, tmp_path: Path) -> None:
    """Refused before any work."""
    with pytest.raises(RecipeError, match="expected 1 to 2 layers"):
        distil(teacher_path, DATA, tmp_path / "student", student=StudentSettings(encoder_layers=3), plan=PLAN)


@pytest.mark.parametrize("top_k", [None, 4])
def test_no_rows_are_refused(teacher_path: Path, tmp_path: Path, top_k: int | None) -> None:
    """Before the teacher is asked, and no student is written."""
    plan = replace(PLAN, divergence=1.0, top_k=top_k)
    with pytest.raises(TrainingError, match="expected rows to train on"):
        distil(teacher_path, replace(DATA, train=[]), tmp_path / "student", student=STUDENT, plan=plan)
    assert not (tmp_path / "student").exists()


def test_rows_that_cannot_be_learnt_are_told(teacher_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those whose answers are longer than any that the student may give are counted before the training begins."""
    long = [replace(row, fields={**row.fields, "line": "x"}, target="qwertz " * 9) for row in DATA.train[:3]]
    distil(teacher_path, replace(DATA, train=[*long, *DATA.train[3:]]), tmp_path / "student", student=STUDENT, plan=PLAN)
    assert "left out of training: 3 rows whose answers are too long; " in capsys.readouterr().err


def test_a_student_with_a_vocabulary_of_its_own(teacher_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns from answers and spans, reads its own tokens, and is an ordinary checkpoint; called again, nothing is left over."""
    monkeypatch.setitem(PRESETS, "nano", Shape(encoder_layers=1, decoder_layers=1, d_model=8, d_ff=16, heads=2))
    plan = replace(PLAN, divergence=0.0, spans=1.0)
    student = StudentSettings(preset="nano", vocab_size=340)
    card = distil(teacher_path, DATA, tmp_path / "student", student=student, plan=plan)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    loaded = TeacherModel.load(tmp_path / "student")
    assert loaded.tokenizer.size == loaded.model.config.vocab_size == 340
    assert loaded.card.max_new_tokens >= TeacherModel.load(teacher_path).card.max_new_tokens
    assert card.data["rows"] == len(DATA.train)
    assert isinstance(loaded.answer(["for valu"])[0].text, str)


def test_a_vocabulary_of_another_size_is_learnt_anew(teacher_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a training that did not come to its end left one."""
    monkeypatch.setitem(PRESETS, "nano", Shape(encoder_layers=1, decoder_layers=1, d_model=8, d_ff=16, heads=2))
    plan = replace(PLAN, divergence=0.0)
    for size in (340, 330):
        student = StudentSettings(preset="nano", vocab_size=size)
        distil(teacher_path, DATA, tmp_path / "student", student=student, plan=plan, keep_state=True)
        loaded = TeacherModel.load(tmp_path / "student")
        assert loaded.tokenizer.size == loaded.model.config.vocab_size == size


@pytest.mark.parametrize(
    ("student", "plan", "message"),
    [
        (StudentSettings(preset="nano", vocab_size=300), PLAN, "cannot be compared with its teacher token by token"),
        (STUDENT, replace(PLAN, spans=1.0), "spans are for a student with a vocabulary of its own"),
    ],
)
def test_losses_go_with_the_vocabulary(
    teacher_path: Path, tmp_path: Path, student: StudentSettings, plan: TrainingPlan, message: str
) -> None:
    """The error says which loss to use instead."""
    with pytest.raises(RecipeError, match=message):
        distil(teacher_path, DATA, tmp_path / "student", student=student, plan=plan)


def test_updates_with_rounding_leave_their_verdict_on_the_card(teacher_path: Path, tmp_path: Path) -> None:
    """What each candidate was worth, and which was kept."""
    plan = replace(PLAN, hidden=0.5, average=0.9, int8_steps=2)
    card = distil(teacher_path, DATA, tmp_path / "student", student=STUDENT, plan=plan)
    assert set(card.training["int8"]) == {"trained", "longer", "rounded", "kept"}
    assert CheckpointCard.read(tmp_path / "student").training["int8"] == card.training["int8"]
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


TEXT = Template(fields=(Field("text", max_tokens=16, truncate="right"),), primary="text")


def odd_teacher(path: Path, **settings: dict[str, Any]) -> Path:
    """A teacher whose ``config`` and ``generation_config`` say something else."""
    make_checkpoint(path, template=TEXT)
    for name, change in settings.items():
        file = path / f"{name}.json"
        write_json(file, {**json.loads(file.read_text()), **change})
    return path


def test_a_student_learns_behind_what_its_teacher_is_made_to_say(tmp_path: Path) -> None:
    """Rows learnt by heart are answered, by the student as it is saved, whose first token is the same."""
    rows = [Example(str(number), {"text": word}, word[:3]) for number, word in enumerate(WORDS[:8])]
    teacher = odd_teacher(tmp_path / "teacher", generation_config={"forced_bos_token_id": 2})
    plan = TrainingPlan(
        steps=200, batch_size=8, warmup_steps=5, optimizer="muon", learning_rate=1e-2, divergence=1e-3, top_k=4, bf16=False
    )
    distil(teacher, Data(rows, [], "f"), tmp_path / "student", student=StudentSettings(decoder_layers=2), plan=plan)
    answers = TeacherModel.load(tmp_path / "student").answer([row.fields for row in rows])
    assert [answer.tokens[0] for answer in answers] == [2] * 8
    assert [answer.text for answer in answers] == [row.target for row in rows]


@pytest.mark.parametrize("student", [STUDENT, replace(STUDENT, start="random"), StudentSettings(preset="nano")])
def test_every_student_is_made_to_say_what_its_teacher_is(
    tmp_path: Path, student: StudentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of a shape of its own, since its labels begin with it."""
    monkeypatch.setitem(PRESETS, "nano", Shape(encoder_layers=1, decoder_layers=1, d_model=8, d_ff=16, heads=2))
    teacher = odd_teacher(tmp_path / "teacher", generation_config={"forced_bos_token_id": 2})
    rows = [Example(word, {"text": word}, word[:3]) for word in WORDS]
    distil(teacher, Data(rows, [], "f"), tmp_path / "student", student=student, plan=PLAN)
    assert json.loads((tmp_path / "student/generation_config.json").read_text())["forced_bos_token_id"] == 2


def test_spans_are_those_behind_what_a_teacher_is_made_to_say(tmp_path: Path) -> None:
    """A student with a vocabulary of its own is made to say nothing, and shares every boundary with its teacher all the same."""
    rows = [Example(word, {"text": word}, word) for word in WORDS]
    own = StudentSettings(preset="nano", vocab_size=340)
    plan = replace(PLAN, divergence=0.0, spans=1.0, bf16=False)
    found = []
    for name, forced in (("plain", None), ("made", 2)):
        path = odd_teacher(tmp_path / name, generation_config={"forced_bos_token_id": forced})
        reading = read_rows(TeacherModel.load(path), path, rows, tmp_path / "own", student=own, plan=plan)
        assert reading.tokenized.rows.spans is not None
        found.append(reading.tokenized.rows.spans)
    assert np.array_equal(np.isfinite(found[0]), np.isfinite(found[1]))
    assert not np.allclose(found[0], found[1], equal_nan=True)


@pytest.mark.parametrize(
    ("config", "generation"),
    [
        ({"decoder_start_token_id": None}, {"decoder_start_token_id": 0}),
        ({"pad_token_id": None}, {"pad_token_id": None}),
        ({"eos_token_id": [1, 2]}, {"eos_token_id": [1, 2]}),
    ],
    ids=["start", "pad", "ends"],
)
@pytest.mark.parametrize("student", [STUDENT, StudentSettings(preset="nano")], ids=["cut", "preset"])
def test_special_ids_may_stand_wherever_a_teacher_is_asked_by_them(
    tmp_path: Path, config: dict[str, Any], generation: dict[str, Any], student: StudentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either configuration, several of them, or none for padding; the student has one of each, in both."""
    monkeypatch.setitem(PRESETS, "nano", Shape(encoder_layers=1, decoder_layers=1, d_model=8, d_ff=16, heads=2))
    teacher = odd_teacher(tmp_path / "teacher", config=config, generation_config=generation)
    rows = [Example(word, {"text": word}, word[:3]) for word in WORDS]
    distil(teacher, Data(rows[2:], rows[:2], "f"), tmp_path / "student", student=student, plan=PLAN)
    for name in ("config.json", "generation_config.json"):
        written = json.loads((tmp_path / "student" / name).read_text())
        assert [written[name] for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id")] == [0, 1, 0]


@pytest.mark.parametrize(("validation", "every"), [([], 3), (DATA.validation, 0)])
def test_updates_with_rounding_need_validation(teacher_path: Path, tmp_path: Path, validation: list[Example], every: int) -> None:
    """Refused before the training that they come after."""
    plan = replace(PLAN, int8_steps=2, validate_every=every)
    with pytest.raises(TrainingError, match="expected rows to validate on, by which int8_steps are kept or not, found none"):
        distil(teacher_path, replace(DATA, validation=validation), tmp_path / "student", student=STUDENT, plan=plan)
    assert not list(tmp_path.iterdir())

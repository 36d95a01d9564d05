"""Teachers: found by name, copied into a run, trained from nothing and further."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import CheckpointError, RecipeError
from pocketseq.examples import read_examples
from pocketseq.files import write_json
from pocketseq_distill.checkpoints import checkpoint_fingerprint, find_teacher
from pocketseq_distill.corpus import TASKS, LibrarySettings, build_library_corpus
from pocketseq_distill.distil import Data
from pocketseq_distill.ensemble import write_ensemble
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.teacher import TeacherSettings
from pocketseq_distill.teaching import copy_teacher, train_teacher
from pocketseq_distill.training.course import Trained, train
from pocketseq_distill.training.plan import TrainingPlan

from .disk import room_for
from .models import make_checkpoint

TASK = TASKS["python-fix"]
CARD = CheckpointCard(task=TASK.name, template=TASK.template, max_new_tokens=TASK.max_new_tokens)
TINY = TeacherSettings(vocab_size=512, d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1)
PLAN = TrainingPlan(steps=2, batch_size=4, warmup_steps=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """A few rows of python-fix."""
    folder = tmp_path_factory.mktemp("data")
    corpus = build_library_corpus(folder, LibrarySettings(share=0.06, rows_per_file=4))
    return Data(train=list(read_examples(folder / "train.jsonl")), validation=[], fingerprint=corpus.fingerprint)


@pytest.fixture(scope="module")
def teacher(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that was trained for two updates."""
    output = tmp_path_factory.mktemp("teachers") / "teacher"
    train_teacher(data, output, card=CARD, settings=TINY, plan=PLAN, recipe_name="tiny")
    return output


def test_a_teacher_from_nothing_is_an_ordinary_checkpoint(teacher: Path, data: Data) -> None:
    """transformers loads it without code of this project, and its card says what it was trained on and how."""
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(teacher), AutoTokenizer.from_pretrained(teacher)
    assert model.config.vocab_size == len(tokenizer) == 512
    card = CheckpointCard.read(teacher)
    assert card.data["fingerprint"] == data.fingerprint
    assert card.recipe["name"] == "tiny"
    assert card.training["steps"] == 2
    assert card.template == TASK.template


@pytest.mark.parametrize("change", [{"vocab_size": 400}, {"units": "characters"}])
def test_a_vocabulary_of_other_settings_is_learnt_anew(teacher: Path, data: Data, tmp_path: Path, change: dict[str, Any]) -> None:
    """What an earlier teacher left beside the run's is not taken for it; with its settings it is there again."""
    shutil.copytree(teacher.with_name("teacher.tokenizer"), tmp_path / "teacher.tokenizer")
    first = (teacher / "tokenizer.json").read_bytes()
    settings = replace(TINY, **change)
    train_teacher(data, tmp_path / "teacher", card=CARD, settings=settings, plan=PLAN)
    assert (tmp_path / "teacher/tokenizer.json").read_bytes() != first
    assert len(AutoTokenizer.from_pretrained(tmp_path / "teacher")) <= settings.vocab_size
    train_teacher(data, tmp_path / "teacher", card=CARD, settings=TINY, plan=PLAN)
    assert (tmp_path / "teacher/tokenizer.json").read_bytes() == first


def test_training_goes_on_from_another_teacher(teacher: Path, data: Data, tmp_path: Path) -> None:
    """Vocabulary, shape and weights are the other's: without a learning rate they come out as they went in."""
    still = replace(PLAN, learning_rate=0.0, weight_decay=0.0)
    settings = TeacherSettings(start=str(teacher), d_model=999)
    train_teacher(data, tmp_path / "next", card=CARD, settings=settings, plan=still)
    before, after = (AutoModelForSeq2SeqLM.from_pretrained(path).state_dict() for path in (teacher, tmp_path / "next"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "next/tokenizer.json").read_bytes() == (teacher / "tokenizer.json").read_bytes()


def test_training_goes_on_behind_what_a_teacher_is_made_to_say(
    teacher: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its labels begin with that token, and end with its own end token."""
    start = Path(shutil.copytree(teacher, tmp_path / "start"))
    for name, change in (("generation_config", {"forced_bos_token_id": 9, "eos_token_id": 3}), ("config", {"eos_token_id": 3})):
        write_json(start / f"{name}.json", {**json.loads((start / f"{name}.json").read_text()), **change})
    seen: list[TokenRows] = []

    def watched(model: PreTrainedModel, rows: TokenRows, *arguments: Any, **more: Any) -> Trained:
        seen.append(rows)
        return train(model, rows, *arguments, **more)

    monkeypatch.setattr("pocketseq_distill.teaching.train", watched)
    train_teacher(data, tmp_path / "next", card=CARD, settings=TeacherSettings(start=str(start)), plan=PLAN)
    assert {(int(row["labels"][0]), int(row["labels"][-1])) for row in map(seen[0].__getitem__, range(len(seen[0])))} == {(9, 3)}


def test_training_does_not_go_on_from_an_ensemble(teacher: Path, data: Data, tmp_path: Path) -> None:
    """An average has no output layer of its own to train; a member has."""
    write_ensemble([teacher, teacher], tmp_path / "both")
    with pytest.raises(RecipeError, match="expected one teacher as start, found an ensemble"):
        train_teacher(data, tmp_path / "next", card=CARD, settings=TeacherSettings(start=str(tmp_path / "both")), plan=PLAN)


def test_training_may_end_between_where_it_went_on_from_and_where_it_came(teacher: Path, data: Data, tmp_path: Path) -> None:
    """A quarter of its weights are then the first ones, and its card says so and how good that is."""
    apart = Data(train=data.train[:-4], validation=data.train[-4:], fingerprint=data.fingerprint)
    plan = replace(PLAN, validate_every=2, validation_rows=4)
    for name, share in (("whole", 0.0), ("mixed", 0.25)):
        settings = TeacherSettings(start=str(teacher), start_share=share)
        train_teacher(apart, tmp_path / name, card=CARD, settings=settings, plan=plan)
    began, whole, mixed = (
        AutoModelForSeq2SeqLM.from_pretrained(path).state_dict() for path in (teacher, tmp_path / "whole", tmp_path / "mixed")
    )
    assert any(not torch.equal(began[name], whole[name]) for name in began)
    for name in began:
        torch.testing.assert_close(mixed[name], 0.25 * began[name] + 0.75 * whole[name])
    card = CheckpointCard.read(tmp_path / "mixed")
    assert card.recipe["teacher"]["start_share"] == 0.25
    assert [found.get("start_share") for found in card.training["validations"]] == [None, 0.25]


@pytest.mark.parametrize("given", [{"start_share": 0.5}, {"start": "python-fix", "start_share": 1.0}])
def test_a_share_of_no_start_or_of_nothing_else_is_refused(given: dict[str, Any]) -> None:
    """The message says what goes with what."""
    with pytest.raises(RecipeError, match="expected start_share from 0 to below 1, and start beside it"):
        TeacherSettings(**given)


def test_a_copy_leaves_code_and_other_formats_behind(teacher: Path, tmp_path: Path) -> None:
    """What could hold code does not come along."""
    source = shutil.copytree(teacher, tmp_path / "source")
    for name in ("modeling.py", "pytorch_model.bin"):
        (source / name).write_text("boom")
    copy_teacher(source, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(path.name for path in teacher.iterdir())


def test_a_full_disk_leaves_no_half_of_a_copy(tmp_path: Path) -> None:
    """What was there before stays whole; with room again the same call goes on."""
    source, copy = make_checkpoint(tmp_path / "source"), tmp_path / "runs/copy"
    copy_teacher(source, copy)
    before = checkpoint_fingerprint(copy)
    words = r"copy: expected a place that can be written, found: \[Errno \d+\] File too large[^\n]*; make room"
    with room_for(3000), pytest.raises(CheckpointError, match=words):
        copy_teacher(source, copy)
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    assert checkpoint_fingerprint(copy) == before
    copy_teacher(source, copy)


def test_an_unknown_teacher_is_refused_by_name() -> None:
    """The message says what there is to choose from."""
    with pytest.raises(CheckpointError, match="expected a directory with a config.json, a hub id, or one of the shipped teachers"):
        find_teacher("no-such-teacher")

"""Checkpoints are ordinary Hugging Face directories, written whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import CheckpointError
from pocketseq_distill.checkpoints import SHIPPED, checkpoint_fingerprint, copy_checkpoint, save_checkpoint, weights_size_bytes
from pocketseq_distill.generation import TeacherModel

from .disk import room_for
from .models import make_checkpoint, make_t5


def test_transformers_loads_a_checkpoint_without_code_of_ours(teacher_path: Path) -> None:
    """Model and tokenizer, by the Auto classes."""
    model = AutoModelForSeq2SeqLM.from_pretrained(teacher_path)
    ids = AutoTokenizer.from_pretrained(teacher_path)("for value", return_tensors="pt").input_ids
    ours = TeacherModel.load(teacher_path).model
    with torch.no_grad():
        assert torch.equal(model(ids, decoder_input_ids=ids).logits, ours(ids, decoder_input_ids=ids).logits)


def test_weights_are_safetensors_and_nothing_else(teacher_path: Path) -> None:
    """No pickles, so that loading a checkpoint cannot run code."""
    assert not [path for path in teacher_path.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert weights_size_bytes(teacher_path) == (teacher_path / "model.safetensors").stat().st_size


def test_what_a_training_left_below_a_checkpoint_is_not_of_it(teacher_path: Path, tmp_path: Path) -> None:
    """Other tools keep checkpoints on the way there: neither counted, nor copied, nor part of the fingerprint."""
    path, copy = Path(shutil.copytree(teacher_path, tmp_path / "trained")), tmp_path / "copy"
    shutil.copytree(teacher_path, path / "checkpoint-500")
    (path / "optimizer.pt").write_bytes(b"state")
    assert weights_size_bytes(path) == weights_size_bytes(teacher_path)
    assert checkpoint_fingerprint(path) == checkpoint_fingerprint(teacher_path)
    copy_checkpoint(path, copy)
    assert sorted(entry.name for entry in copy.iterdir()) == sorted(entry.name for entry in teacher_path.iterdir())


def test_the_shipped_teachers_keep_their_fingerprints() -> None:
    """Labels, cards and results name them by these."""
    assert checkpoint_fingerprint(SHIPPED / "python-fix") == "6904e93f3ae486b3"


def test_the_card_names_the_versions(teacher_path: Path) -> None:
    """Of Python and of the libraries that decide what a training gives."""
    versions = CheckpointCard.read(teacher_path).versions
    assert versions["torch"].startswith(torch.__version__.partition("+")[0])
    assert {"python", "transformers", "tokenizers"} <= set(versions)


def test_the_fingerprint_is_of_what_decides_the_answers(teacher_path: Path, tmp_path: Path) -> None:
    """A twin has the same, whatever its metrics; other weights have another."""
    twin = make_checkpoint(tmp_path / "twin")
    card = CheckpointCard.read(twin)
    replace(card, metrics={"exact_match": 0.5}).write(twin)
    assert checkpoint_fingerprint(twin) == checkpoint_fingerprint(teacher_path)
    replace(card, max_new_tokens=5).write(twin)
    assert checkpoint_fingerprint(twin) != checkpoint_fingerprint(teacher_path)
    other = make_checkpoint(tmp_path / "other", decoder_layers=1)
    assert checkpoint_fingerprint(other) != checkpoint_fingerprint(teacher_path)


@pytest.mark.parametrize(
    ("changed", "decides"),
    [
        ({"forced_bos_token_id": 9}, True),
        ({"bad_words_ids": [[5]]}, True),
        ({"eos_token_id": [1, 7]}, True),
        ({"decoder_start_token_id": 3}, True),
        ({"num_beams": 4, "temperature": 0.5}, False),
        ({"transformers_version": "6.0"}, False),
    ],
)
def test_special_ids_beside_the_configuration_are_part_of_the_fingerprint(
    tmp_path: Path, changed: dict[str, object], decides: bool
) -> None:
    """A first token, end tokens and banned ones decide answers; how the checkpoint would like to be asked does not."""
    path = make_checkpoint(tmp_path / "model")
    before, file = checkpoint_fingerprint(path), path / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    assert (checkpoint_fingerprint(path) != before) == decides


def test_a_damaged_generation_config_is_refused(tmp_path: Path) -> None:
    """What cannot be read might have decided answers."""
    path = make_checkpoint(tmp_path / "model")
    (path / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config\.json: expected a JSON object that can be read, found"):
        checkpoint_fingerprint(path)


def test_a_checkpoint_replaces_an_older_one_whole(teacher_path: Path, tmp_path: Path) -> None:
    """Files of the older one do not linger, and nothing is left beside it."""
    path = make_checkpoint(tmp_path / "model")
    (path / "model.safetensors.index.json").write_text("{}")
    save_checkpoint(make_t5(vocab=360), path, card=CheckpointCard.read(teacher_path), tokenizer=teacher_path)
    assert not (path / "model.safetensors.index.json").exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "tokenizer"]


def test_a_kill_while_the_older_one_goes_leaves_the_newer_one_whole(
    teacher_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is left of the older one goes with the next call."""
    path, card = make_checkpoint(tmp_path / "model"), CheckpointCard.read(teacher_path)
    newer = make_checkpoint(tmp_path / "newer", decoder_layers=1)
    rmtree = shutil.rmtree

    def dies(folder: Path, *, ignore_errors: bool = False) -> None:
        if (folder / "model.safetensors").exists():
            (folder / "model.safetensors").unlink()
            raise KeyboardInterrupt
        rmtree(folder, ignore_errors=ignore_errors)

    def save() -> None:
        save_checkpoint(TeacherModel.load(newer).model, path, card=card, tokenizer=teacher_path)

    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", dies)
        with pytest.raises(KeyboardInterrupt):
            save()
    assert weights_size_bytes(path) == weights_size_bytes(newer)
    TeacherModel.load(path)
    save()
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")) == []


def test_a_kill_before_the_newer_one_is_in_its_place_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call, which finds no room, gives the older one its name back."""
    path, tokenizer, other = make_checkpoint(tmp_path / "model"), tmp_path / "tokenizer", make_t5(vocab=360, decoder_layers=1)
    before, card, rename = checkpoint_fingerprint(path), CheckpointCard.read(path), Path.rename

    def dies(source: Path, target: Path) -> Path:
        if source.name == ".model.part":
            raise KeyboardInterrupt
        return rename(source, target)

    with monkeypatch.context() as killed:
        killed.setattr(Path, "rename", dies)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(other, path, card=card, tokenizer=tokenizer)
    assert not path.exists()
    with room_for(10_000), pytest.raises(CheckpointError, match="make room"):
        save_checkpoint(other, path, card=card, tokenizer=tokenizer)
    assert checkpoint_fingerprint(path) == before


def test_a_model_without_its_tokenizer_is_refused(teacher_path: Path, tmp_path: Path) -> None:
    """A checkpoint that nobody could use is not written."""
    with pytest.raises(CheckpointError, match="expected the tokenizer of the model, found none of"):
        save_checkpoint(make_t5(), tmp_path / "model", card=CheckpointCard.read(teacher_path), tokenizer=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    """Whole and alone; with room again the same call goes on."""
    path = make_checkpoint(tmp_path / "model")
    before = checkpoint_fingerprint(path)
    card, tokenizer, other = CheckpointCard.read(path), tmp_path / "tokenizer", make_t5(vocab=360, decoder_layers=1)
    with room_for(10_000), pytest.raises(CheckpointError, match=r"model: expected a place that can be written, .*make room"):
        save_checkpoint(other, path, card=card, tokenizer=tokenizer)
    assert checkpoint_fingerprint(path) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "tokenizer"]
    save_checkpoint(other, path, card=card, tokenizer=tokenizer)
    assert checkpoint_fingerprint(path) != before

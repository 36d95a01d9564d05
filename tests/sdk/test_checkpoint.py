"""Checkpoints: a card is read as JSON, a plain Hugging Face directory gets one, and the rest is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pocketseq.checkpoint import CheckpointCard, weights_fingerprint
from pocketseq.errors import CheckpointError

from .tiny import EDITS

CARD = CheckpointCard(
    task="python-fix",
    template=EDITS,
    max_new_tokens=24,
    teacher="teacher",
    data={"fingerprint": "abc"},
    recipe={"steps": 10},
    metrics={"exact_match": 0.7},
    training={"seconds": 3.5},
    versions={"torch": "2.13.0"},
    license="Apache-2.0",
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What Hugging Face writes, with weights that nobody reads here."""
    write(tmp_path, "config.json", {"model_type": "t5", "is_encoder_decoder": True, "n_positions": 128})
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


def write(directory: Path, name: str, value: Any) -> None:
    (directory / name).write_text(json.dumps(value))


def test_a_card_is_read_as_it_was_written(directory: Path) -> None:
    """Beside the weights, as distillation.json."""
    CARD.write(directory)
    assert CheckpointCard.read(directory) == CARD
    assert next(iter(json.loads((directory / "distillation.json").read_text()))) == "format"


def test_a_plain_checkpoint_gets_a_card_of_one_field(directory: Path) -> None:
    """Its budget leaves room for the literals."""
    write(directory, "generation_config.json", {"max_length": 40})
    card = CheckpointCard.read(directory)
    assert [(field.name, field.max_tokens) for field in card.template.fields] == [("text", 120)]
    assert (card.template.start, card.template.end, card.max_new_tokens) == ("", "</s>", 40)


@pytest.mark.parametrize(
    ("processor", "start", "end"),
    [
        ({"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 2]}, "<s>", "</s>"),
        (
            {
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<eos>", "type_id": 0}}],
            },
            "",
            "<eos>",
        ),
        (
            {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "<a>", "type_id": 0}},
                    {"SpecialToken": {"id": "<b>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
            },
            "<a><b>",
            "",
        ),
        (None, "", "<end>"),
    ],
)
def test_the_literals_of_a_plain_checkpoint_are_its_tokenizer_s(directory: Path, processor: Any, start: str, end: str) -> None:
    """What its own tokenizer puts around a text, the template puts around a field."""
    write(directory, "tokenizer.json", {"post_processor": processor})
    write(directory, "tokenizer_config.json", {"eos_token": "<end>"})
    template = CheckpointCard.read(directory).template
    assert (template.start, template.end) == (start, end)


def test_a_plain_checkpoint_that_needs_a_language_is_refused(directory: Path) -> None:
    """Nobody can guess it."""
    write(directory, "config.json", {"model_type": "m2m_100", "is_encoder_decoder": True})
    with pytest.raises(CheckpointError, match="its inputs start with a language"):
        CheckpointCard.read(directory)
    CARD.write(directory)
    assert CheckpointCard.read(directory) == CARD


def test_no_directory_is_refused(tmp_path: Path) -> None:
    """With the path."""
    with pytest.raises(CheckpointError, match="nowhere: expected a checkpoint directory, found none"):
        CheckpointCard.read(tmp_path / "nowhere")


def test_a_directory_without_a_configuration_is_refused(tmp_path: Path) -> None:
    """It is not of Hugging Face."""
    with pytest.raises(CheckpointError, match=r"config\.json: expected this file, found none"):
        CheckpointCard.read(tmp_path)


@pytest.mark.parametrize("config", [{"model_type": "gpt2"}, {"model_type": "llama", "is_encoder_decoder": False}])
def test_what_is_no_encoder_decoder_is_refused(directory: Path, config: dict[str, Any]) -> None:
    """With its type, and with families that are."""
    write(directory, "config.json", config)
    with pytest.raises(CheckpointError, match=f"expected an encoder-decoder, found a model of type '{config['model_type']}'"):
        CheckpointCard.read(directory)


def test_weights_that_can_hold_code_are_refused(directory: Path) -> None:
    """Only safetensors are read."""
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"expected weights as model\.safetensors, found none"):
        CheckpointCard.read(directory)


def test_a_newer_card_is_refused(directory: Path) -> None:
    """With the line that upgrades."""
    write(directory, "distillation.json", CARD.to_json() | {"format": 2})
    with pytest.raises(CheckpointError, match='expected "format" 1, found 2; .* pip install --upgrade'):
        CheckpointCard.read(directory)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON, found"),
        pytest.param("[" * 100_000, "expected JSON, found maximum recursion depth", id="deep"),
        ("[]", "expected a JSON object, found list"),
        ('{"format": 1, "task": 3}', r"distillation\.json"),
        (
            '{"format": 1, "task": "t", "max_new_tokens": 1, "template": {"fields": [], "primary": "x"}}',
            "a template needs one or more",
        ),
    ],
)
def test_a_damaged_card_is_refused(directory: Path, content: str, message: str) -> None:
    """With the file."""
    (directory / "distillation.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        CheckpointCard.read(directory)


def test_weights_are_told_apart_whatever_the_card_says(tmp_path: Path) -> None:
    """What is recorded beside them, or lies below them, leaves the fingerprint as it was; another weight does not."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    found = weights_fingerprint(tmp_path)
    CARD.write(tmp_path)
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "model.safetensors").write_bytes(b"on the way")
    assert weights_fingerprint(tmp_path) == found
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert weights_fingerprint(tmp_path) != found

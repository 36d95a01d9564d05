"""Checkpoints: an ordinary Hugging Face directory and the card beside it, read as JSON; no code of a checkpoint ever runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pocketseq.errors import CheckpointError, InputError
from pocketseq.files import digest, sha256, write_json
from pocketseq.records import plain, read_record
from pocketseq.template import Field, Template

FORMAT: Final = 1
"""Newest card format that this version reads, and the one that it writes."""

CARD: Final = "distillation.json"

_LANGUAGE_FAMILIES: Final = frozenset({"m2m_100", "mbart", "nllb-moe", "seamless_m4t"})
"""Families whose input names its language: which one is the user's to say."""

_DEFAULT_INPUT_TOKENS: Final = 512
_DEFAULT_NEW_TOKENS: Final = 128


@dataclass(frozen=True, slots=True)
class CheckpointCard:
    """What ``distillation.json`` says of a checkpoint."""

    task: str
    template: Template
    """How an input is read."""
    max_new_tokens: int
    """Longest answer in tokens, end token included."""
    teacher: str | None = None
    """What it learnt from; None for a teacher of its own."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What it was trained on, with a ``fingerprint``."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Measures on held-out rows."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Steps, hardware, time."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Libraries, by name."""
    license: str = ""
    """SPDX expression for the weights; empty where it is not known."""
    format: int = FORMAT

    @classmethod
    def read(cls, path: Path) -> CheckpointCard:
        """Read the card of a checkpoint; one without a card, as other tools write it, gets a card of one field, ``text``.

        Raises:
            CheckpointError: no directory, no encoder-decoder, no safetensors weights, a damaged or newer card, or a family whose
                input needs a language that only a card can name.
        """
        path = Path(path)
        if not path.is_dir():
            raise CheckpointError(
                f"{path}: expected a checkpoint directory, found none; download or train one first, or give the path of one that "
                "ships with the sources (distill/pocketseq_distill/teachers)"
            )
        config = _read_json(path / "config.json")
        if config.get("is_encoder_decoder") is not True:
            raise CheckpointError(
                f"{path}: expected an encoder-decoder, found a model of type {config.get('model_type')!r} with no decoder over an "
                "encoder; take a T5, BART, Marian or similar checkpoint"
            )
        if not any(path.glob("*.safetensors")):
            raise CheckpointError(
                f"{path}: expected weights as model.safetensors, found none; weights of other formats can hold code and are not "
                "read: convert them with save_pretrained of a trusted copy"
            )
        if not (path / CARD).exists():
            return _plain_card(path, config)
        value = _read_json(path / CARD)
        if type(value.get("format")) is not int or value["format"] > FORMAT:
            raise CheckpointError(
                f'{path / CARD}: expected "format" {FORMAT}, found {value.get("format")!r}; '
                'a newer pocketseq wrote it, mend it with: pip install --upgrade "pocketseq"'
            )
        try:
            return read_record(cls, value, where=str(path / CARD), error=CheckpointError)
        except InputError as error:
            raise CheckpointError(f"{path / CARD}: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values, the format first."""
        values = plain(self)
        return {"format": values.pop("format"), **values}

    def write(self, path: Path) -> None:
        """Write the card into a checkpoint directory, whole or not at all."""
        write_json(Path(path) / CARD, self.to_json())


def weights_fingerprint(path: Path) -> str:
    """Digest of the weights in a checkpoint's directory alone; it tells whether a result is of this model or of an earlier one."""
    return digest({file.name: sha256(file) for file in path.glob("*.safetensors")})


def _plain_card(path: Path, config: Mapping[str, Any]) -> CheckpointCard:
    family = config.get("model_type")
    if family in _LANGUAGE_FAMILIES:
        raise CheckpointError(
            f"{path}: expected a {CARD} with the template of this {family} model, found none; its inputs start with a "
            "language that only you can name: write one with CheckpointCard(…, template=Template(…, start='eng_Latn')).write(path)"
        )
    start, end = _literals(path)
    longest = config.get("max_position_embeddings") or config.get("n_positions") or _DEFAULT_INPUT_TOKENS
    generation = _read_json(path / "generation_config.json") if (path / "generation_config.json").exists() else {}
    # The 8 tokens leave room for the literals.
    text = Field(name="text", max_tokens=int(longest) - 8, truncate="right")
    return CheckpointCard(
        task="text",
        template=Template(fields=(text,), primary="text", start=start, end=end),
        max_new_tokens=int(generation.get("max_new_tokens") or generation.get("max_length") or _DEFAULT_NEW_TOKENS),
    )


def _literals(path: Path) -> tuple[str, str]:
    """Special tokens that the checkpoint's own tokenizer puts before and after a text."""
    processor = (_read_json(path / "tokenizer.json").get("post_processor") if (path / "tokenizer.json").exists() else None) or {}
    kind = processor.get("type")
    if kind in ("RobertaProcessing", "BertProcessing"):
        return processor["cls"][0], processor["sep"][0]
    if kind == "TemplateProcessing":
        parts = [part.get("SpecialToken", {}).get("id") for part in processor["single"]]
        place = parts.index(None)  # the text itself
        return "".join(parts[:place]), "".join(parts[place + 1 :])
    settings = _read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").exists() else {}
    end = settings.get("eos_token")
    return "", end if isinstance(end, str) else "</s>"


def _read_json(path: Path) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: expected this file, found none; the directory is not a Hugging Face checkpoint") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected JSON, found {error}; the file is damaged, fetch the checkpoint again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(value).__name__}; fetch the checkpoint again")
    return value

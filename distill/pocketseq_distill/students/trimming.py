"""Trimming: a checkpoint with only those tokens of its vocabulary that a task uses.

At a width of 256 a vocabulary of 32,000 tokens is half of a small model. A trimmed checkpoint says exactly what the whole one
does, its probabilities shared out among the tokens that are left, and reads every text whose pieces were kept piece for piece as
before: merges are never undone, so a piece comes out of the same merges whether or not others exist (for BPE, by induction over the
merges; the best path of a unigram model stays the best when others go). Text with other pieces is spelled out in shorter ones.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from transformers import PreTrainedModel

from pocketseq.errors import CheckpointError
from pocketseq.examples import Example
from pocketseq.files import write_json
from pocketseq_distill.checkpoints import checkpoint_fingerprint, place_to_write, read_ensemble, save_checkpoint
from pocketseq_distill.generation import TeacherModel

_VOCABULARY_TENSORS: Final = ("shared.weight", "embed_tokens.weight", "lm_head.weight", "final_logits_bias")
"""Endings of the tensors that have a row, or the bias a column, for every token."""

_TOKEN_LISTS: Final = ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens")
"""Settings that list tokens."""


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a trimming came to."""

    tokens_before: int
    tokens: int
    """Tokens that are left."""
    parameters_before: int
    parameters: int
    """Weights that are left, tied ones counted once."""


def trim_checkpoint(checkpoint: Path, output: Path, examples: Iterable[Example]) -> Trimmed:
    """Write a checkpoint with the tokens that some rows use, in their inputs and in their answers.

    Special tokens stay, and so do single characters and bytes, so that every text can still be read and written.

    Args:
        checkpoint: A Hugging Face directory with a ``tokenizer.json``.
        output: The directory to be; whole or absent.
        examples: Rows of the task; the more, the rarer what is spelled out later.

    Raises:
        CheckpointError: no usable checkpoint, a tokenizer that is neither BPE nor unigram, or a vocabulary that encoder and decoder
            do not share; or no room on the disk.
    """
    if read_ensemble(checkpoint) is not None:
        raise CheckpointError(f"{checkpoint}: expected one checkpoint to trim, found an ensemble; trim its members and join them")
    teacher = TeacherModel.load(checkpoint)
    document = _read_tokenizer(checkpoint)
    keep = _closed(document, _used(teacher, examples) | _named(teacher.model))
    numbers = {old: new for new, old in enumerate(keep)}
    model = _trimmed_model(teacher.model, keep, numbers)
    card = replace(teacher.card, teacher=checkpoint_fingerprint(checkpoint))
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder)
        with place_to_write(tokenizer):
            write_json(tokenizer / "tokenizer.json", _trimmed_tokenizer(document, numbers))
            if (checkpoint / "tokenizer_config.json").is_file():
                settings = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
                write_json(tokenizer / "tokenizer_config.json", _trimmed_settings(settings, numbers))
            if (checkpoint / "special_tokens_map.json").is_file():
                shutil.copyfile(checkpoint / "special_tokens_map.json", tokenizer / "special_tokens_map.json")
        save_checkpoint(model, output, card=card, tokenizer=tokenizer)
    return Trimmed(
        tokens_before=int(teacher.model.config.vocab_size),
        tokens=len(keep),
        parameters_before=sum(parameter.numel() for parameter in teacher.model.parameters()),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _used(teacher: TeacherModel, examples: Iterable[Example]) -> set[int]:
    """Tokens of the rows as the model reads and writes them."""
    template, tokenizer = teacher.card.template, teacher.tokenizer
    used = set(tokenizer.literal_ids(template.start + template.end))
    for example in examples:
        encoded = template.encode(tokenizer, example.fields)
        used.update(encoded.ids)
        used.update(template.encode_target(tokenizer, encoded, example.target) or ())
    return used


def _named(model: PreTrainedModel) -> set[int]:
    """Tokens that a model's configurations give a part to: without the one that ends an answer, none would end."""
    named: set[int] = set()
    for settings in (model.config, model.generation_config):
        for name, value in settings.to_dict().items():
            if name.endswith("_token_id"):
                named.update(value if isinstance(value, list) else [] if value is None else [value])
    return named & set(range(model.config.vocab_size))  # some name a token of a vocabulary that was left behind


def _read_tokenizer(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected a fast tokenizer to trim, found none; make one with "
            "AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        )
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kind = document["model"].get("type")
    if kind not in ("BPE", "Unigram"):
        raise CheckpointError(f"{path}: expected a tokenizer of type BPE or Unigram, found {kind!r}; it cannot be trimmed exactly")
    return document


def _pieces(document: Mapping[str, Any]) -> dict[str, int]:
    """Token ids by piece."""
    vocabulary = document["model"]["vocab"]
    if isinstance(vocabulary, list):
        return {piece: number for number, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def _closed(document: Mapping[str, Any], used: set[int]) -> list[int]:
    """Ids to keep, in their old order: those used, special ones, single characters and bytes, and what they are merged from."""
    pieces = _pieces(document)
    keep = set(used)
    keep.update(token["id"] for token in document["added_tokens"])
    keep.update(number for piece, number in pieces.items() if len(piece) == 1 or (piece.startswith("<0x") and piece.endswith(">")))
    unknown = document["model"].get("unk_id")
    if unknown is not None:
        keep.add(unknown)
    parts: dict[int, set[int]] = {}
    for left, right in _merges(document):
        parts.setdefault(pieces[left + right], set()).update((pieces[left], pieces[right]))
    waiting = list(keep)
    while waiting:
        for part in parts.get(waiting.pop(), set()) - keep:
            keep.add(part)
            waiting.append(part)
    return sorted(keep)


def _merges(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of pieces that become one; older files write a pair as one string."""
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in document["model"].get("merges") or [])
    return [(left, right) for left, right in pairs]


def _trimmed_tokenizer(document: Mapping[str, Any], numbers: Mapping[int, int]) -> dict[str, Any]:
    """The same ``tokenizer.json`` with the tokens that are left, under their new numbers."""
    trimmed = copy.deepcopy(dict(document))
    model = trimmed["model"]
    pieces = _pieces(document)
    if model["type"] == "Unigram":
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in numbers]
        if model.get("unk_id") is not None:
            model["unk_id"] = numbers[model["unk_id"]]
    else:
        model["vocab"] = {piece: numbers[number] for piece, number in pieces.items() if number in numbers}
        kept = model["vocab"].keys()
        model["merges"] = [
            merge
            for merge, (left, right) in zip(model["merges"], _merges(document), strict=True)
            if left in kept and right in kept and left + right in kept
        ]
    for token in trimmed["added_tokens"]:
        token["id"] = numbers[token["id"]]
    processor = trimmed.get("post_processor") or {}
    for special in processor.get("special_tokens", {}).values():
        special["ids"] = [numbers[number] for number in special["ids"]]
    for name in ("cls", "sep"):
        if name in processor:
            processor[name] = [processor[name][0], numbers[processor[name][1]]]
    return trimmed


def _trimmed_settings(settings: Mapping[str, Any], numbers: Mapping[int, int]) -> dict[str, Any]:
    """The same ``tokenizer_config.json``, its added tokens under their new numbers."""
    added = settings.get("added_tokens_decoder")
    if added is None:
        return dict(settings)
    return {**settings, "added_tokens_decoder": {str(numbers[int(number)]): token for number, token in added.items()}}


def _trimmed_model(model: PreTrainedModel, keep: Sequence[int], numbers: Mapping[int, int]) -> PreTrainedModel:
    """The same function with the rows and columns of the tokens that are left."""
    config = copy.deepcopy(model.config)
    if getattr(config, "decoder_vocab_size", config.vocab_size) not in (None, config.vocab_size):
        raise CheckpointError(
            f"expected one vocabulary for encoder and decoder, found {config.vocab_size} and {config.decoder_vocab_size} tokens; "
            "such a model cannot be trimmed"
        )
    weights = {}
    for name, tensor in model.state_dict().items():
        if name.endswith(_VOCABULARY_TENSORS):
            axis = tensor.ndim - 1 if name.endswith("bias") else 0
            tensor = tensor.index_select(axis, tensor.new_tensor(keep).long())  # noqa: PLW2901
        weights[name] = tensor
    config.vocab_size = len(keep)
    if getattr(config, "decoder_vocab_size", None) is not None:
        config.decoder_vocab_size = len(keep)
    _renumber(config, numbers)
    trimmed: PreTrainedModel = type(model)(config)
    trimmed.load_state_dict(weights)
    trimmed.tie_weights()
    trimmed.generation_config = copy.deepcopy(model.generation_config)
    _renumber(trimmed.generation_config, numbers)
    return trimmed.eval()


def _renumber(settings: Any, numbers: Mapping[int, int]) -> None:
    """Put new numbers into every setting that names tokens; a token that is gone needs no ban, and its number is another's now."""

    def new(value: Any) -> Any:
        if isinstance(value, list):
            return [new(item) for item in value]
        return numbers.get(value, value)

    def there(value: Any) -> bool:
        return all(map(there, value)) if isinstance(value, list) else value in numbers

    for name, value in settings.to_dict().items():
        if name.endswith("_token_id"):
            setattr(settings, name, new(value))
        elif name in _TOKEN_LISTS and value is not None:
            setattr(settings, name, [new(item) for item in value if there(item)] or None)  # transformers refuses an empty list

"""Layers: which of a teacher's a student takes, and the student that is made of copies of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from pocketseq.errors import CheckpointError, RecipeError
from pocketseq_distill.students.settings import Selection


@dataclass(frozen=True, slots=True)
class Family:
    """Where a model family keeps its layers, and what its configuration calls their number."""

    layers: str
    """Name of the layer list inside encoder and decoder."""
    encoder_count: str
    """Configuration key of the encoder's layers."""
    decoder_count: str
    """Configuration key of the decoder's layers."""
    total_count: str | None = None
    """Configuration key that repeats the encoder's layers."""


_BART: Final = Family("layers", "encoder_layers", "decoder_layers", "num_hidden_layers")
FAMILIES: Final[dict[str, Family]] = {
    "t5": Family("block", "num_layers", "num_decoder_layers"),
    "mt5": Family("block", "num_layers", "num_decoder_layers"),
    "bart": _BART,
    "mbart": _BART,
    "marian": _BART,
    "pegasus": _BART,
    "m2m_100": _BART,
}
"""Families whose layers can be chosen, by ``model_type``."""


def select_layers(total: int, keep: int, selection: Selection) -> tuple[int, ...]:
    """Choose which of a teacher's layers a student keeps.

    Args:
        total: Layers of the teacher.
        keep: Layers of the student.
        selection: How to choose.

    Returns:
        Indices in order; a single spaced layer is the first.

    Raises:
        RecipeError: the student would have no layers, or more than the teacher.
    """
    if not 1 <= keep <= total:
        raise RecipeError(f"expected 1 to {total} layers, as many as the teacher has, found {keep}")
    if selection == "alternating":
        stride = total // keep
        return tuple(range(0, stride * keep, stride))
    if keep == 1:
        return (0,)
    return tuple(round(index * (total - 1) / (keep - 1)) for index in range(keep))


def make_student(teacher: PreTrainedModel, *, encoder_layers: Sequence[int], decoder_layers: Sequence[int]) -> PreTrainedModel:
    """Build a student out of some of a teacher's layers, with copies of its weights; the teacher stays as it is.

    T5 keeps its table of relative positions in the first layer of each stack: it goes with whichever layer comes first.

    Args:
        teacher: An encoder-decoder of a family in ``FAMILIES``.
        encoder_layers: Indices of the teacher's encoder layers, in the order in which the student has them.
        decoder_layers: The same for the decoder.

    Raises:
        CheckpointError: a family whose layers cannot be chosen.
        RecipeError: no layers, or indices that the teacher does not have.
    """
    family = family_of(teacher)
    chosen = {"encoder": tuple(encoder_layers), "decoder": tuple(decoder_layers)}
    stacks = {name: getattr(stack_of(teacher, name), family.layers) for name in chosen}
    for name, indices in chosen.items():
        _check(name, indices, len(stacks[name]))
    student: PreTrainedModel = type(teacher)(_config(teacher.config, family, chosen))
    student.generation_config = copy.deepcopy(teacher.generation_config)
    weights = {key: value for key, value in teacher.state_dict().items() if not key.startswith(_layer_prefixes(teacher, family))}
    student.load_state_dict(weights, strict=False)
    for name, indices in chosen.items():
        layers = getattr(stack_of(student, name), family.layers)
        for layer, index in zip(layers, indices, strict=True):
            # Not strict: the first T5 layer alone has the table of relative positions, which is copied below.
            layer.load_state_dict(stacks[name][index].state_dict(), strict=False)
        _copy_relative_positions(stacks[name][0], layers[0])
    student.tie_weights()
    return student


def family_of(model: PreTrainedModel) -> Family:
    """The family of a model.

    Raises:
        CheckpointError: one whose layers cannot be chosen.
    """
    family = FAMILIES.get(model.config.model_type)
    if family is None:
        raise CheckpointError(f"expected a teacher of one of the families {sorted(FAMILIES)}, found {model.config.model_type!r}")
    return family


def stack_of(model: PreTrainedModel, name: str) -> nn.Module:
    """A model's ``encoder`` or ``decoder``."""
    stack: nn.Module = model.get_encoder() if name == "encoder" else model.get_decoder()
    return stack


def _check(name: str, indices: tuple[int, ...], total: int) -> None:
    if not indices or not all(0 <= index < total for index in indices):
        raise RecipeError(f"expected {name} layers among 0 to {total - 1}, at least one, found {list(indices)}")


def _config(teacher: PretrainedConfig, family: Family, chosen: dict[str, tuple[int, ...]]) -> PretrainedConfig:
    config = copy.deepcopy(teacher)
    setattr(config, family.encoder_count, len(chosen["encoder"]))
    setattr(config, family.decoder_count, len(chosen["decoder"]))
    if family.total_count:
        setattr(config, family.total_count, len(chosen["encoder"]))
    for name in ("encoder_layerdrop", "decoder_layerdrop"):  # a layer that is left out at times is one of many; here it may be all
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


def _layer_prefixes(model: PreTrainedModel, family: Family) -> tuple[str, ...]:
    lists = [getattr(stack_of(model, name), family.layers) for name in ("encoder", "decoder")]
    return tuple(f"{name}." for name, module in model.named_modules() if any(module is layers for layers in lists))


def _copy_relative_positions(source: nn.Module, target: nn.Module) -> None:
    tables = {key: value for key, value in source.state_dict().items() if "relative_attention_bias" in key}
    target.load_state_dict(tables, strict=False)

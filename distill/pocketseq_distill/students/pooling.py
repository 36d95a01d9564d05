"""Pooling: weights of a new student that are averages of a teacher's, whatever the shapes of both.

A student that is narrower than its teacher, or has other numbers of layers, can take over more than chance: each of its weights
is the mean of a block of the teacher's, each of its layers comes from the teacher's at the same height. Means are smaller than what
they are made of, so matrices are brought back to the teacher's scale for their width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from pocketseq.errors import RecipeError

_LAYER: Final = re.compile(r"^((?:model\.)?(?:encoder|decoder)\.(?:block|layers)\.)(\d+)(\..*)$")


@torch.no_grad()
def pool_weights(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Fill a student with averages of its teacher's weights; the embeddings of another vocabulary stay as they are.

    Args:
        student: A model of the teacher's family; changed in place.
        teacher: Stays as it is.

    Raises:
        RecipeError: models of two families, whose weights have different meanings, or a teacher without some of the student's.
    """
    if student.config.model_type != teacher.config.model_type:
        raise RecipeError(
            f"expected a teacher of the student's family to pool weights from, {student.config.model_type!r}, found "
            f'{teacher.config.model_type!r}; leave start = "pooled" out'
        )
    theirs = teacher.state_dict()
    layers = {prefix: _count(teacher, prefix) / _count(student, prefix) for prefix in _prefixes(student)}
    another_vocabulary = student.config.vocab_size != teacher.config.vocab_size
    sources = {name: _source(name, layers) for name, _ in student.named_parameters()}
    if lacking := [name for name, source in sources.items() if source not in theirs]:
        raise RecipeError(
            f"expected a teacher with the student's weights to pool from, found none for {lacking[0]!r} and "
            f'{len(lacking) - 1} more (feed-forward layers with gates are others than those without); leave start = "pooled" out'
        )
    for name, parameter in student.named_parameters():
        if another_vocabulary and parameter.size(0) == student.config.vocab_size:
            continue
        tensor = theirs[sources[name]].float()
        parameter.copy_(_pooled(tensor, parameter.shape, gains=name.endswith("norm.weight") or "relative" in name))
    student.tie_weights()


def _source(name: str, layers: Mapping[str, float]) -> str:
    """The teacher's weight for one of the student's. A first layer, which alone has T5's relative positions, has a first one's."""
    if found := _LAYER.match(name):
        prefix, layer, rest = found.groups()
        return f"{prefix}{int(int(layer) * layers[prefix])}{rest}"
    return name


def _pooled(tensor: Tensor, shape: torch.Size, *, gains: bool) -> Tensor:
    """Means of blocks; gains, biases and tables stay means, matrices get the size that their width asks for."""
    if tensor.shape == shape:
        return tensor
    if tensor.ndim == 1:
        return functional.adaptive_avg_pool1d(tensor[None], shape[0])[0]
    pooled = functional.adaptive_avg_pool2d(tensor[None], (shape[0], shape[1]))[0]
    if gains:
        return pooled
    return pooled * (tensor.std() / pooled.std().clamp(min=1e-9)) * math.sqrt(max(tensor.size(1) / shape[1], 1.0))


def _prefixes(model: PreTrainedModel) -> set[str]:
    return {found.group(1) for name in model.state_dict() if (found := _LAYER.match(name))}


def _count(model: PreTrainedModel, prefix: str) -> int:
    places = (_LAYER.match(name) for name in model.state_dict() if name.startswith(prefix))
    return 1 + max(int(found.group(2)) for found in places if found)

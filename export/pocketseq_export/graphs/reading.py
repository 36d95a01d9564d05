"""What the families' readers of configurations and weights have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from pocketseq.errors import CheckpointError
from pocketseq_export.graphs.spec import Activation

ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""Names of non-linearities in Hugging Face configurations."""


def activation_of(name: str) -> Activation:
    """The non-linearity of that name.

    Raises:
        CheckpointError: one that the graphs have not.
    """
    if name not in ACTIVATIONS:
        raise CheckpointError(f"expected an activation among {', '.join(sorted(ACTIVATIONS))}, found {name!r} in config.json")
    return ACTIVATIONS[name]


def biased(weights: Mapping[str, Tensor]) -> bool:
    """Whether the logits have a bias that changes anything."""
    return "final_logits_bias" in weights and bool(weights["final_logits_bias"].any())


def same(weights: Mapping[str, Tensor], one: str, other: str) -> bool:
    """Whether two weights are the same numbers, tied in the file or not."""
    return weights[one] is weights[other] or torch.equal(weights[one], weights[other])

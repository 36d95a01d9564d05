"""Which layers suffer from rounding: each is rounded alone, and the change of what the model says is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketseq_export.graphs import EncoderDecoder


@dataclass(frozen=True, slots=True)
class Rounding:
    """What a precision does to a projection."""

    weight_bits: int
    """Bits of a weight, symmetric, a scale for each output channel."""
    activation_bits: int | None
    """Bits of an activation, with one scale for all of them; None leaves them as they are."""


ROUNDINGS: Final[Mapping[str, Rounding]] = {
    "int8": Rounding(8, 8),
    "int8w": Rounding(8, None),
    "int4": Rounding(4, 8),
}
"""By precision, as the coarsest of the runtimes has it. Others hold without rounding, or not at all."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """One question with the answer along which the model is asked."""

    source: tuple[int, ...]
    """Token ids of the input."""
    target: tuple[int, ...]
    """Start token and answer but for its last token."""


def rank_layers(model: EncoderDecoder, teachings: Sequence[Teaching], rounding: Rounding) -> tuple[str, ...]:
    """Names of the model's linear layers, the most fragile first.

    Args:
        model: See ``author``; it is left as it is.
        teachings: Held-out questions with the checkpoint's answers.
        rounding: What happens to one layer at a time.

    Returns:
        Names as ``model.named_modules()`` has them, by the mean change of a log-probability.
    """
    exact = [_logprobs(model, teaching) for teaching in teachings]
    harm: dict[str, float] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            handle = layer.register_forward_hook(_Rounded(layer, rounding))
            try:
                rounded = [_logprobs(model, teaching) for teaching in teachings]
            finally:
                handle.remove()
            changes = [(one - other).abs().mean() for one, other in zip(exact, rounded, strict=True)]
            harm[name] = float(torch.stack(changes).mean())
    return tuple(sorted(harm, key=lambda name: -harm[name]))


class _Rounded:
    """Replaces what a layer says by what it says when its weights and its input are rounded."""

    def __init__(self, layer: nn.Linear, rounding: Rounding) -> None:
        self._weight = _round(layer.weight, layer.weight.abs().amax(dim=1, keepdim=True), rounding.weight_bits)
        self._activation_bits = rounding.activation_bits

    def __call__(self, layer: nn.Linear, inputs: tuple[Any, ...], _: Tensor) -> Tensor:
        x: Tensor = inputs[0]
        if self._activation_bits is not None:
            x = _round(x, x.abs().amax(), self._activation_bits)
        return F.linear(x, self._weight, layer.bias)


def _round(x: Tensor, largest: Tensor, bits: int) -> Tensor:
    scale: Tensor = (largest / (2 ** (bits - 1) - 1)).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.round(x / scale) * scale


def _logprobs(model: EncoderDecoder, teaching: Teaching) -> Tensor:
    ids = torch.tensor([teaching.source])
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        stepped = model.step(torch.tensor([teaching.target]), 0, mask, model.encode(ids, mask).cross, model.start(1))
    return stepped.logprobs

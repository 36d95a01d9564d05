"""Averages of weights: a moving one that is validated and kept, and the mix of two models.

The moving average is exponential. It forgets with the decay, and faster in the first updates, so that it does not cling to where
the training began: its decay there is (1 + n) / (10 + n) after n updates (Kingma and Ba 2015, section 7.2, and the warm-up that
TensorFlow gave it).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_FILE: Final = "average.safetensors"


class WeightAverage:
    """The moving average of a model's trainable weights."""

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            model: The model in training.
            decay: Share of the old average that an update keeps; 0.999 looks back over about a thousand updates.
        """
        self._model = model
        self._decay = decay
        self._average = {name: parameter.detach().float().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights of an update.

        Args:
            step: Updates made so far.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._model.named_parameters():
            self._average[name].lerp_(parameter.float(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the place of the weights while the block runs."""
        own = {name: parameter.detach().clone() for name, parameter in self._model.named_parameters()}
        self.apply()
        try:
            yield
        finally:
            _copy(self._model, own)

    def apply(self) -> None:
        """Put the average in the place of the weights for good."""
        _copy(self._model, self._average)

    def save(self, checkpoint: Path) -> None:
        """Write the average beside a checkpoint's weights."""
        save_file(self._average, checkpoint / _FILE)

    def load(self, checkpoint: Path) -> None:
        """Take up the average that a checkpoint holds."""
        for name, tensor in load_file(checkpoint / _FILE).items():
            self._average[name].copy_(tensor)


def load_average(model: nn.Module, checkpoint: Path) -> bool:
    """Put the average that a checkpoint holds into a model; False where it holds none."""
    if not (checkpoint / _FILE).is_file():
        return False
    _copy(model, load_file(checkpoint / _FILE))
    return True


@torch.no_grad()
def blend(model: nn.Module, other: nn.Module, *, share: float) -> None:
    """Mix another model's weights into a model (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", equation 1).

    Args:
        model: The model, which changes.
        other: One of the same shape.
        share: The other's share, from 0 to 1.
    """
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.lerp_(theirs[name].to(parameter), share)


@torch.no_grad()
def _copy(model: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])

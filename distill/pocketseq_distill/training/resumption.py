"""Resumption: which checkpoint of a training is whole, and what it holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from pocketseq_distill.training.averaging import load_average


def last_complete_checkpoint(state_dir: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a kill left half written is removed.

    The trainer's state is the last file that a checkpoint gets, so one whose state reads as JSON is whole.
    """
    newest: tuple[int, Path] | None = None
    for path in state_dir.glob("checkpoint-*"):
        try:
            step = int(json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))["global_step"])
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path)
            continue
        if newest is None or step > newest[0]:
            newest = (step, path)
    return newest[1] if newest else None


def load_result(model: nn.Module, checkpoint: Path) -> None:
    """Put into a model what a training that ended with a checkpoint gives: its average where it kept one, else its weights."""
    if not load_average(model, checkpoint):
        # Not strict: tied weights are written once, and what only training needs is not the model's.
        model.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=False)

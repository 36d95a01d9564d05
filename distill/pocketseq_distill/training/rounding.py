"""Rounding: a model as the int8 export will compute it, and updates that get it used to that.

What is computed once for a source, the encoder and the decoder's keys and values of it, is rounded as ONNX Runtime's
``DynamicQuantizeMatMul`` computes it: weights symmetric in eight bits with one scale an output channel, activations in unsigned
eight bits with one scale and zero for a whole tensor, which includes zero. What is computed token by token, as its ``MatMulNBits``:
weights and activations symmetric by blocks of a row, so that no row depends on those beside it. Tables are rounded by such blocks
too. In the backward pass rounding counts as if it were not there (Bengio, Léonard and Courville 2013,
"Estimating or Propagating Gradients Through Stochastic Neurons"; Jacob et al. 2018).

Others measured more harm than good from such updates, so they are kept only where this run measures them better.
"""

from __future__ import annotations

import copy
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from pocketseq_distill.losses.matching import LayerMap
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.processes import of_first
from pocketseq_distill.training.trainer import Validation

BLOCKS: Final = (256, 128, 64, 32, 16)
"""Widths of a block, the one that the export prefers first."""
_OF_A_SOURCE: Final = re.compile(r"(^|\.)encoder\.|\.(EncDecAttention\.[kv]|encoder_attn\.[kv]_proj)$")
"""Names of what is computed once for a source, by T5 and BART."""
_GENTLER: Final = 0.1
"""Learning rate of the updates with rounding, in units of the training's: they mend, they do not learn anew."""

Rounding: TypeAlias = Callable[[Tensor], Tensor]

Kept: TypeAlias = Literal["as trained", "more updates", "more updates, rounded"]


@dataclass(frozen=True, slots=True)
class Int8Verdict:
    """What the updates with rounding were worth, by validation of rounded models."""

    trained: float
    """Exact match of the student as it was trained."""
    longer: float
    """The same after as many more updates without rounding: what more training alone gives."""
    rounded: float
    """The same after as many more updates with rounding."""
    kept: Kept
    """The best of them; at equal quality the one that cost least."""

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON values."""
        return asdict(self)


def tune_for_int8(
    model: PreTrainedModel,
    rows: TokenRows,
    plan: TrainingPlan,
    *,
    state_dir: Path,
    validation: Validation,
    teacher: PreTrainedModel | None = None,
    layers: LayerMap | None = None,
) -> Int8Verdict:
    """Make ``plan.int8_steps`` more updates with and without rounding; the model ends as the best of three.

    Args:
        model: A trained student; changed in place.
        rows: What it was trained on.
        plan: How.
        state_dir: Where the two trainings keep what they need to be resumed, by the weights that they go on from.
        validation: Measures a model; here a rounded one.
        teacher: As in ``train``.
        layers: As in ``train``.
    """
    more = replace(
        plan,
        steps=plan.int8_steps,
        learning_rate=_GENTLER * plan.learning_rate,
        warmup_steps=min(plan.warmup_steps, plan.int8_steps // 10),
        frozen_encoder_steps=0,
        max_minutes=None,
        validate_every=None,
        patience=None,
        int8_steps=0,
        report_to=(),
    )
    with rounded(model):
        scores: dict[Kept, float] = {"as trained": float(validation(model)[plan.judged_by])}
    candidates: dict[Kept, Mapping[str, Tensor]] = {"as trained": copy.deepcopy(model.state_dict())}
    origin = of_first(_fingerprint(model))
    for name in ("more updates", "more updates, rounded"):
        one = copy.deepcopy(model)
        folder = state_dir / name.replace(", ", "-").replace(" ", "-")
        if name == "more updates":
            train(one, rows, more, state_dir=folder, teacher=teacher, layers=layers, origin=origin)
            with rounded(one):
                scores[name] = float(validation(one)[plan.judged_by])
        else:
            with rounded(one):
                train(one, rows, more, state_dir=folder, teacher=teacher, layers=layers, origin=origin)
                scores[name] = float(validation(one)[plan.judged_by])
        candidates[name] = one.state_dict()
    kept = max(scores, key=lambda name: scores[name])
    model.load_state_dict(candidates[kept])
    shutil.rmtree(state_dir, ignore_errors=True)
    return Int8Verdict(scores["as trained"], scores["more updates"], scores["more updates, rounded"], kept)


@contextmanager
def rounded(model: nn.Module) -> Iterator[None]:
    """Let a model compute as its int8 export does while the block runs; its weights stay as they are."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Embedding) and "relative" not in name)
    }
    try:
        for name, layer in layers.items():
            if isinstance(layer, nn.Linear):
                of_source = _OF_A_SOURCE.search(name) is not None
                layer.__dict__["forward"] = _projection(layer, *(_BY_CHANNEL if of_source else _BY_BLOCK))
            else:
                layer.__dict__["forward"] = _table(layer)
        yield
    finally:
        for layer in layers.values():
            layer.__dict__.pop("forward", None)


def _fingerprint(model: nn.Module) -> str:
    """Digest of trained weights: read from a checkpoint they are the same to the bit, on whatever device."""
    found = hashlib.sha256()
    for weight in model.parameters():
        found.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def _projection(layer: nn.Linear, round_states: Rounding, round_weight: Rounding) -> Any:
    def forward(states: Tensor) -> Tensor:
        # In float32: bfloat16 has as many bits as are left after rounding.
        with torch.autocast(states.device.type, enabled=False):
            bias = None if layer.bias is None else layer.bias.float()
            return functional.linear(round_states(states.float()), round_weight(layer.weight.float()), bias)

    return forward


def _table(layer: nn.Embedding) -> Any:
    plain = type(layer).forward

    def forward(ids: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        looked_up: Tensor = plain(layer, ids, *args, **kwargs)
        return round_blocks(looked_up)

    return forward


def round_channels(weight: Tensor) -> Tensor:
    """Round a projection, float32 [outputs, inputs], by output channel."""
    return _symmetric(weight, weight.detach().abs().amax(dim=1, keepdim=True))


def round_blocks(rows: Tensor) -> Tensor:
    """Round rows, float32 [..., width], of a table, a projection or activations, by the widest block that divides them."""
    width = rows.size(-1)
    block = next((size for size in BLOCKS if width % size == 0), width)
    blocks = rows.reshape(*rows.shape[:-1], width // block, block)
    return _symmetric(blocks, blocks.detach().abs().amax(dim=-1, keepdim=True)).flatten(-2)


def round_activations(states: Tensor) -> Tensor:
    """Round activations to unsigned eight bits with one scale and zero for all of them."""
    fixed = states.detach()
    low, high = fixed.amin().clamp(max=0), fixed.amax().clamp(min=0)
    scale = ((high - low) / 255).clamp(min=1e-12)
    zero = torch.round(-low / scale)
    values = ((torch.round(fixed / scale) + zero).clamp(0, 255) - zero) * scale
    return states + (values - fixed)


def _symmetric(weight: Tensor, largest: Tensor) -> Tensor:
    scale = torch.where(largest > 0, largest / 127, torch.ones_like(largest))
    values = torch.round(weight.detach() / scale) * scale
    return weight + (values - weight.detach())


_BY_CHANNEL: Final[tuple[Rounding, Rounding]] = (round_activations, round_channels)
_BY_BLOCK: Final[tuple[Rounding, Rounding]] = (round_blocks, round_blocks)
"""How activations and weights are rounded."""

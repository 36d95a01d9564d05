"""Pruning: a narrower student, made of those dimensions of a teacher that carry most.

A hidden unit of a feed-forward layer counts by the mean size of its activation times the norm of what it writes; a dimension of the
residual stream by the mean size of what the normalised stream holds there, over all sublayers. Both are measured on rows of the
task (Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation", section 2.2: activation-based
importance is as good as gradients at a fraction of the cost). What is left is a start, not a model: train it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pocketseq.errors import CheckpointError, RecipeError
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.training.batches import Collate

_ROWS: Final = 256
"""Rows that the importance of a dimension is measured on; its order settles within the first hundred."""

_HIDDEN: Final = {"wi": "wo", "wi_0": "wo", "wi_1": "wo", "fc1": "fc2"}
"""Projections into the hidden units of a feed-forward layer, and the one out of them, as T5 and BART name them."""
_HIDDEN_SIZES: Final = ("d_ff", "encoder_ffn_dim", "decoder_ffn_dim")
_RELATIVE: Final = frozenset({"t5", "mt5"})
"""Families whose heads are as wide as they are whatever the width of the model."""


def prune_hidden(model: PreTrainedModel, size: int, rows: TokenRows) -> PreTrainedModel:
    """Keep the hidden units of every feed-forward layer that carry most.

    Args:
        model: An encoder-decoder of a family in ``layers.FAMILIES``; it stays as it is.
        size: Hidden units of each layer of the new model.
        rows: What the units are judged on.

    Raises:
        RecipeError: more units than there are, or none.
    """
    layers = {name: module for name, module in model.named_modules() if name.rpartition(".")[2] in set(_HIDDEN.values())}
    widest = min(module.in_features for module in layers.values() if isinstance(module, nn.Linear))
    _check_size("d_ff", size, widest)
    seen: dict[str, Tensor] = {}
    with _watching(layers, lambda name, given, _: _add(seen, name, given[0])):
        _run(model, rows)
    kept = {name: _largest(seen[name] * layers[name].weight.norm(dim=0), size) for name in layers}
    weights = model.state_dict()
    for name in layers:
        parent = name.rpartition(".")[0]
        weights[f"{name}.weight"] = weights[f"{name}.weight"][:, kept[name]]
        for into in (key for key, out in _HIDDEN.items() if f"{parent}.{out}" == name):
            for kind in ("weight", "bias"):
                if f"{parent}.{into}.{kind}" in weights:
                    weights[f"{parent}.{into}.{kind}"] = weights[f"{parent}.{into}.{kind}"][kept[name]]
    config = copy.deepcopy(model.config)
    for field in _HIDDEN_SIZES:
        if hasattr(config, field):
            setattr(config, field, size)
    return _rebuilt(model, config, weights)


def prune_width(model: PreTrainedModel, size: int, rows: TokenRows) -> PreTrainedModel:
    """Keep the dimensions of the residual stream that carry most; heads keep their number and width.

    Args:
        model: A T5 or mT5; it stays as it is.
        size: Width of the new model.
        rows: What the dimensions are judged on.

    Raises:
        CheckpointError: a family whose heads share the width of the model among them.
        RecipeError: wider than the model is, or no width at all.
    """
    config = copy.deepcopy(model.config)
    if config.model_type not in _RELATIVE:
        raise CheckpointError(
            f"expected a family whose heads do not depend on the width ({', '.join(sorted(_RELATIVE))}), found "
            f"{config.model_type!r}; leave d_model out, and take fewer layers or a smaller d_ff instead"
        )
    _check_size("d_model", size, config.d_model)
    norms = {name: module for name, module in model.named_modules() if type(module).__name__.endswith("LayerNorm")}
    seen: dict[str, Tensor] = {}
    energies: dict[str, Tensor] = {}

    def see(name: str, given: Any, output: Tensor) -> None:
        _add(seen, name, output)
        _add(energies, name, given[0].square())

    with _watching(norms, see):
        _run(model, rows)
    # Sublayers differ in scale: each has one vote.
    kept = _largest(sum((held / held.sum() for held in seen.values()), torch.zeros(config.d_model)), size)
    old = config.d_model
    config.d_model = size
    weights = model.state_dict()
    for name, energy in energies.items():
        # The root mean square of fewer dimensions is another: the norm's gain takes over the difference.
        gain = (old / size * energy[kept].sum() / energy.sum()).sqrt()
        weights[f"{name}.weight"] = weights[f"{name}.weight"] * gain
    for name, tensor in weights.items():
        if "relative_attention_bias" in name:
            continue
        axis = 0 if name.endswith(("o.weight", "wo.weight", "layer_norm.weight")) else 1
        weights[name] = tensor.index_select(axis, kept)
    if getattr(config, "scale_decoder_outputs", False):
        # The output divides by the root of the width: the last norm takes over what that changes.
        weights["decoder.final_layer_norm.weight"] = weights["decoder.final_layer_norm.weight"] * math.sqrt(size / old)
    return _rebuilt(model, config, weights)


def _check_size(name: str, size: int, widest: int) -> None:
    if not 1 <= size <= widest:
        raise RecipeError(f"{name}: expected 1 to {widest}, as wide as the teacher is, found {size}")


def _largest(importance: Tensor, count: int) -> Tensor:
    """Places of the largest, int64 [count], in order."""
    return importance.topk(count).indices.sort().values


def _add(seen: dict[str, Tensor], name: str, values: Tensor) -> None:
    """Add up the sizes of activations [batch, step, width] by dimension."""
    total = values.detach().float().abs().flatten(0, -2).sum(0)
    seen[name] = seen[name] + total if name in seen else total


@contextmanager
def _watching(modules: dict[str, nn.Module], see: Callable[[str, Any, Tensor], None]) -> Iterator[None]:
    """Show what goes into and comes out of modules, by name, while the block runs."""
    hooks = [
        module.register_forward_hook(lambda _, given, output, name=name: see(name, given, output))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _run(model: PreTrainedModel, rows: TokenRows) -> None:
    """Send rows through a model, one by one: beside longer ones, a row's padding would be judged on."""
    collate = Collate.of(model)
    training = model.training
    model.eval()
    with torch.no_grad():
        for place in range(min(len(rows), _ROWS)):
            batch = collate(rows.take([place]))
            del batch["labels"]
            model(**{name: tensor.to(model.device) for name, tensor in batch.items()}, use_cache=False)
    model.train(training)


def _rebuilt(model: PreTrainedModel, config: Any, weights: dict[str, Tensor]) -> PreTrainedModel:
    rebuilt: PreTrainedModel = type(model)(config)
    rebuilt.generation_config = copy.deepcopy(model.generation_config)
    rebuilt.load_state_dict(weights)
    rebuilt.tie_weights()
    return rebuilt

"""Kernels: the attention, norms and feed-forward layers of a model, in fewer passes over memory than they are spelled out in.

On a CPU a small model waits for memory as much as for products. Where relative positions are learnt, PyTorch's attention falls back
to steps of its own with a mask of batch × heads × queries × keys; T5's norm is five operations of which each reads and writes all
states, in float32; and its feed-forward layer casts its hidden units to float32 and back. The functions stay what they are, up to
the rounding of the precision that a plan computes in, and so do the modules and what is saved of them.

An accelerator has an attention of its own; there it is norms and feed-forward layers alone, whose many small kernels and casts to
and fro take longer to start than to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.masking_utils import eager_mask
from transformers.models.mt5.modeling_mt5 import MT5DenseActDense, MT5DenseGatedActDense, MT5LayerNorm
from transformers.models.t5.modeling_t5 import T5DenseActDense, T5DenseGatedActDense, T5LayerNorm

_ATTENTION: Final = "pocketseq"
"""Name under which transformers finds ``attend``."""
_FAMILIES: Final = frozenset({"t5", "mt5", "bart", "mbart", "marian", "pegasus", "m2m_100"})
"""Families whose attention has as many keys as queries, and no caps or windows, which ``attend`` does not know."""


@contextmanager
def fewer_passes(model: PreTrainedModel) -> Iterator[None]:
    """While the block runs, let a model compute with the kernels of this module; attention with them on a CPU alone.

    Backward passes may follow after the block. Attention whose weights were asked for (``eager``) stays as it is, and so does a
    model whose projections are replaced, as ``rounding`` replaces them: it looks at what goes into them before it is cast.

    Args:
        model: An encoder-decoder; what its family has no kernel for is left alone.
    """
    modules = list(model.modules())
    if any(isinstance(one, nn.Linear) and "forward" in one.__dict__ for one in modules):
        yield
        return
    configs = {id(module.config): module.config for module in modules if isinstance(module, PreTrainedModel)}
    attending = [
        one
        for one in configs.values()
        if model.device.type == "cpu" and one.model_type in _FAMILIES and one._attn_implementation == "sdpa"
    ]
    replaced = [(module, forward) for module in modules if (forward := _forward(module)) and "forward" not in module.__dict__]
    try:
        for config in attending:
            config._attn_implementation = _ATTENTION
        for module, forward in replaced:
            module.__dict__["forward"] = forward
        yield
    finally:
        for config in attending:
            config._attn_implementation = "sdpa"
        for module, _ in replaced:
            module.__dict__.pop("forward", None)


def _forward(module: nn.Module) -> Any:
    """A module's forward pass by a kernel, where there is one."""
    match module:
        case T5LayerNorm() | MT5LayerNorm():
            return partial(_norm, module)
        case T5DenseActDense() | MT5DenseActDense():
            return partial(_feed_forward, module)
        case T5DenseGatedActDense() | MT5DenseGatedActDense():
            return partial(_gated_feed_forward, module)
    return None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Softmax(query · keyᵀ · scaling + bias + mask) · value.

    Args:
        module: The layer; its mode decides whether weights are dropped.
        query: float [batch, head, query, width].
        key: float [batch, head, key, width].
        value: float [batch, head, key, width].
        attention_mask: float [batch, 1, query or 1, key], 0 where a query may look and very low elsewhere.
        dropout: Share of the weights that is dropped in training.
        scaling: Of the products; 1/√width if not given.
        position_bias: float [1, head, query, key].

    Returns:
        float [batch, query, head, width], and no weights.
    """
    scaling = query.size(-1) ** -0.5 if scaling is None else scaling
    # Heads are views across the width; products of those as they lie take longer than copies and products of these.
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    with torch.autocast(query.device.type, enabled=False):  # it would have the products in float32 too
        scores = torch.matmul(query if scaling == 1 else query * scaling, key.mT)
        weights: Tensor = _Softmax.apply(scores, position_bias, attention_mask)  # type: ignore[no-untyped-call]
        weights = functional.dropout(weights, p=dropout, training=module.training)
        return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


class _Softmax(torch.autograd.Function):
    """Softmax(scores + bias + mask), computed in float32 and kept in the precision of the scores.

    In bfloat16 a processor takes several times as long for rows as short as those of a short attention, and longer still for their
    gradient.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        sums = scores.to(torch.float32, copy=True)
        if bias is not None:
            sums += bias
        if mask is not None:
            # A query that may look nowhere would be no number with −∞.
            sums += mask.float().clamp(min=torch.finfo(sums.dtype).min)
        weights = sums.softmax(-1).to(scores.dtype)
        ctx.save_for_backward(weights)
        ctx.bias = None if bias is None else (bias.shape, bias.dtype)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (weights,) = ctx.saved_tensors
        towards = torch.ops.aten._softmax_backward_data(gradients[0].float(), weights.float(), -1, torch.float32)
        to_bias = None if ctx.bias is None else towards.sum_to_size(ctx.bias[0]).to(ctx.bias[1])
        return towards.to(weights.dtype), to_bias, None


AttentionInterface.register(_ATTENTION, attend)
AttentionMaskInterface.register(_ATTENTION, eager_mask)


class _RootMeanSquare(torch.autograd.Function):
    """x · w / √(mean x² + ε) over the last dimension (Zhang and Sennrich 2019, "Root Mean Square Layer Normalization")."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        inverse = torch.linalg.vector_norm(states, dim=-1, keepdim=True).square_().div_(states.size(-1)).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states, weight, inverse)
        return torch.mul(states, inverse).mul_(weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states, weight, inverse = ctx.saved_tensors
        gradient, width = gradients[0].to(states.dtype), states.size(-1)
        # The gradient of a layer norm of mean 0 is that of this norm but for the mean that it takes away again.
        towards, to_weight, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, states, [width], torch.zeros_like(inverse), inverse, weight, None, [True, True, False]
        )
        towards += (gradient @ weight)[..., None].mul_(inverse).div_(width)
        return towards, to_weight, None, None


def _norm(module: Any, states: Tensor) -> Tensor:
    """T5's norm, in the precision that the layers behind it would cast it to, one by one."""
    if states.dtype != module.weight.dtype:
        return type(module).forward(module, states)  # type: ignore[no-any-return]
    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
    if kind != "cpu":  # where PyTorch has it as one kernel
        return functional.rms_norm(states, (states.size(-1),), module.weight, module.variance_epsilon).to(dtype)
    return _RootMeanSquare.apply(states, module.weight, module.variance_epsilon, dtype)  # type: ignore[no-any-return, no-untyped-call]


def _feed_forward(module: Any, states: Tensor) -> Tensor:
    hidden = module.wi(states)
    hidden = functional.relu(hidden, inplace=True) if isinstance(module.act, nn.ReLU) else _activated(module.act, hidden)
    return _contracted(module, hidden)


def _gated_feed_forward(module: Any, states: Tensor) -> Tensor:
    hidden = _activated(module.act, module.wi_0(states)) * module.wi_1(states)
    return _contracted(module, hidden)


def _contracted(module: Any, hidden: Tensor) -> Tensor:
    """The second projection; its weights may be kept in float32, which nobody but autocast bridges."""
    hidden = module.dropout(hidden)
    if not torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(module.wo.weight.dtype)
    return module.wo(hidden)  # type: ignore[no-any-return]


def _activated(act: nn.Module, states: Tensor) -> Tensor:
    if isinstance(act, NewGELUActivation):  # the same curve, spelled out in nine operations
        return functional.gelu(states, approximate="tanh")
    return act(states)  # type: ignore[no-any-return]

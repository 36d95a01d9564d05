"""Sublayers: attention over the sequence itself, attention over the source, feed-forward, and the norms between them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketseq_export.graphs.spec import Activation, GraphSpec, StackSpec


class KeyValue(NamedTuple):
    """Keys and values of one attention."""

    key: Tensor
    """float32 [batch, heads, sequence, head_dim]."""
    value: Tensor
    """float32 [batch, heads, sequence, head_dim]."""


def norm(spec: GraphSpec) -> nn.Module:
    """The family's normalisation over the model's width."""
    if spec.norm == "rms":
        return nn.RMSNorm(spec.d_model, eps=spec.norm_epsilon)
    return nn.LayerNorm(spec.d_model, eps=spec.norm_epsilon)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[batch, sequence, heads × head_dim] → [batch, heads, sequence, head_dim]."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def attend(query: Tensor, memory: KeyValue, *, scale: float, bias: Tensor) -> Tensor:
    """Attention of every query over the memory.

    Args:
        query: float32 [batch, heads, query, head_dim].
        memory: Keys and values of the sequence attended to.
        scale: Factor of the scores.
        bias: Added to the scores, broadcast to [batch, heads, query, key]; holds positions and masks.

    Returns:
        float32 [batch, query, heads × head_dim].
    """
    scores = query @ memory.key.transpose(2, 3) * scale + bias
    return (torch.softmax(scores, dim=-1) @ memory.value).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention of a sequence over itself and over what its cache holds of the tokens before it."""

    def __init__(self, spec: GraphSpec, stack: StackSpec) -> None:
        super().__init__()
        self.heads = stack.heads
        self.scale = spec.attention_scale(stack)
        self.query_key_value = nn.Linear(spec.d_model, 3 * stack.inner_dim, bias=spec.bias)
        self.output = nn.Linear(stack.inner_dim, spec.d_model, bias=spec.bias)

    def project(self, x: Tensor) -> tuple[Tensor, KeyValue]:
        """Queries, keys and values of new tokens; all are [batch, heads, sequence, head_dim]."""
        query, key, value = (split_heads(part, self.heads) for part in self.query_key_value(x).chunk(3, dim=-1))
        return query, KeyValue(key, value)

    def forward(self, query: Tensor, memory: KeyValue, bias: Tensor) -> Tensor:
        """Attend and project; see ``attend``."""
        y: Tensor = self.output(attend(query, memory, scale=self.scale, bias=bias))
        return y


class CrossAttention(nn.Module):
    """Attention of the decoder over the source, whose keys and values the encoder computed once."""

    def __init__(self, spec: GraphSpec) -> None:
        super().__init__()
        stack = spec.decoder
        self.heads = stack.heads
        self.scale = spec.attention_scale(stack)
        self.query = nn.Linear(spec.d_model, stack.inner_dim, bias=spec.bias)
        self.output = nn.Linear(stack.inner_dim, spec.d_model, bias=spec.bias)

    def forward(self, x: Tensor, memory: KeyValue, bias: Tensor) -> Tensor:
        """Attend and project; see ``attend``."""
        query = split_heads(self.query(x), self.heads)
        y: Tensor = self.output(attend(query, memory, scale=self.scale, bias=bias))
        return y


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply a non-linearity."""
    match activation:
        case "relu":
            return F.relu(x)
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "silu":
            return F.silu(x)


class FeedForward(nn.Module):
    """Two projections with a non-linearity, gated or not, between them."""

    def __init__(self, spec: GraphSpec, stack: StackSpec) -> None:
        super().__init__()
        self.activation = spec.activation
        self.gated = spec.gated
        self.input = nn.Linear(spec.d_model, stack.ffn_dim * (2 if spec.gated else 1), bias=spec.bias)
        self.output = nn.Linear(stack.ffn_dim, spec.d_model, bias=spec.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, sequence, d_model] → the same."""
        x = self.input(x)
        if self.gated:
            gate, x = x.chunk(2, dim=-1)
            x = activate(gate, self.activation) * x
        else:
            x = activate(x, self.activation)
        y: Tensor = self.output(x)
        return y

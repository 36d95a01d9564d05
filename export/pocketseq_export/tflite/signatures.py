"""The signatures of a program as modules of fixed shapes: LiteRT's converter takes no others.

Batches are of one row, a step is of one token, and caches have their full length from the start: what is not there yet is masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketseq_export.graphs import EncoderDecoder, GraphSpec, KeyValue
from pocketseq_export.graphs.positions import RelativeBias
from pocketseq_export.graphs.stacks import DecoderLayer, EncoderLayer, Residual
from pocketseq_export.graphs.sublayers import CrossAttention, SelfAttention

MASKED: Final = -1e4
"""Added to the score of what must not be seen: its softmax is exactly 0, and it can be rounded to any float."""


class EncodeProgram(nn.Module):
    """A source of up to ``length`` tokens → what the decoder needs to know of it."""

    def __init__(self, model: EncoderDecoder, length: int) -> None:
        super().__init__()
        self.spec, self.encoder = model.spec, model.encoder
        self.positions: Tensor
        self.register_buffer("positions", torch.arange(length, dtype=torch.int32), persistent=False)
        self.bias = None if model.encoder.bias is None else SequenceBias(model.encoder.bias, length)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Encode.

        Args:
            input_ids: int32 [1, length].
            attention_mask: float32 [1, length], 1 where there is a token and 0 where there is padding.

        Returns:
            ``cross``: float32 [2 × layers, heads, length, head_dim], the keys and the values of each decoder layer in turn;
            ``pooled``: float32 [1, d_model].
        """
        encoder, stack = self.encoder, self.spec.decoder
        bias = ((1 - attention_mask) * MASKED)[:, None, None, :]
        # The least of a mask or of ids and nothing is nothing, but the converter does not know: what depends on it is computed
        # anew in each bucket, where otherwise tables as large as the model would be stored for each.
        if self.bias is not None:
            bias = bias + self.bias(attention_mask[:, :1].clamp(max=0))
        x = encoder.embedding(input_ids, self.positions + input_ids[0, :1].clamp(max=0))
        residual = Residual(self.spec, x)
        for layer in encoder.layers:
            assert isinstance(layer, EncoderLayer)

            def attention(x: Tensor, module: SelfAttention = layer.attention) -> Tensor:
                query, own = module.project(x)
                y: Tensor = module(query, own, bias)
                return y

            residual.add(layer.attention_norm, attention)
            residual.add(layer.ffn_norm, layer.ffn)
        states = residual.x if encoder.norm is None else encoder.norm(residual.x)
        rows = encoder.cross_key_value(states).reshape(-1, 2 * stack.layers * stack.heads, stack.head_dim)
        cross = rows.transpose(0, 1).reshape(2 * stack.layers, stack.heads, -1, stack.head_dim)
        weight = attention_mask.unsqueeze(-1)
        return {"cross": cross, "pooled": (states * weight).sum(dim=1) / weight.sum(dim=1)}


class StepProgram(nn.Module):
    """One target token → log-probabilities of the next, and the token's own keys and values."""

    def __init__(self, model: EncoderDecoder, *, target: int) -> None:
        super().__init__()
        self.spec, self.decoder, self.output = model.spec, model.decoder, model.output
        self.bias = PastBias(model.decoder.bias, target)
        # A factor between a norm and a projection would be multiplied into the projection, which then is stored twice where it
        # is also a token table. In the norm it costs nothing.
        self.norm = scaled(model.decoder.norm, model.spec.logit_scale)

    def forward(self, token_ids: Tensor, position: Tensor, source_bias: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        """Decode one token.

        Args:
            token_ids: int32 [1, 1].
            position: int32 [1], tokens in the cache.
            source_bias: float32 [1, 1, 1, source], 0 where there is a token and ``MASKED`` elsewhere.
            memory: ``cross_0`` … and ``self_0`` …: keys and values of each layer in turn, of the source and of the tokens so far,
                float32 [1, heads, source or target, head_dim]; what stands behind the last token is not seen.

        Returns:
            ``logprobs``: float32 [1, 1, vocab]; ``new``: float32 [2 × layers, heads, 1, head_dim].
        """
        past, own_bias = self.bias(position)
        residual = Residual(self.spec, self.decoder.embedding(token_ids, position))
        new: list[Tensor] = []
        for index, layer in enumerate(self.decoder.layers):
            assert isinstance(layer, DecoderLayer)
            before = KeyValue(memory[f"self_{2 * index}"], memory[f"self_{2 * index + 1}"])
            source = KeyValue(memory[f"cross_{2 * index}"], memory[f"cross_{2 * index + 1}"])

            def attention(x: Tensor, module: SelfAttention = layer.attention, before: KeyValue = before) -> Tensor:
                query, own = module.project(x)
                new.extend(own)
                # The cache and the token apart, so that the cache is read where it lies and not copied to append a column.
                scores = query @ before.key.transpose(2, 3) * module.scale + past
                score = (query * own.key).sum(dim=-1, keepdim=True) * module.scale + own_bias
                shares = torch.softmax(torch.cat([scores, score], dim=-1), dim=-1)
                seen = shares[..., :-1] @ before.value + shares[..., -1:] * own.value
                y: Tensor = module.output(seen.transpose(1, 2).flatten(2))
                return y

            def cross_attention(x: Tensor, module: CrossAttention = layer.cross, source: KeyValue = source) -> Tensor:
                y: Tensor = module(x, source, source_bias)
                return y

            residual.add(layer.attention_norm, attention)
            residual.add(layer.cross_norm, cross_attention)
            residual.add(layer.ffn_norm, layer.ffn)
        states = residual.x if self.norm is None else self.norm(residual.x)
        return {"logprobs": torch.log_softmax(self.output(states), dim=-1), "new": torch.cat(new, dim=0)}


class SequenceBias(nn.Module):
    """Bias of every query for every key of a whole sequence, out of a row of distances."""

    def __init__(self, bias: RelativeBias, length: int) -> None:
        super().__init__()
        self.length = length
        around = torch.arange(2 * length)
        distances = torch.where(around < length, around, around - 2 * length)
        self.table: Tensor
        self.register_buffer("table", by_distance(bias, distances).t().contiguous(), persistent=False)

    def forward(self, nothing: Tensor) -> Tensor:
        """[1, heads, length, length], of a [1, 1] that is 0.

        Repeated and read with rows that are shorter by one, a row of distances is shifted by one from row to row.
        """
        length, width = self.length, 2 * self.length
        rows = (self.table + nothing).unsqueeze(1).expand(-1, length, -1).reshape(-1, length * width)
        shifted = rows[:, : length * (width - 1)].reshape(-1, length, width - 1)
        return shifted[:, :, :length].unsqueeze(0)


class PastBias(nn.Module):
    """Bias of one query for every column of the cache, those behind it masked, and for itself."""

    def __init__(self, bias: RelativeBias | None, target: int) -> None:
        super().__init__()
        distances = torch.arange(-target, target)
        table = torch.zeros(2 * target, 1) if bias is None else by_distance(bias, distances)
        table[distances >= 0] = MASKED
        self.table: Tensor
        self.register_buffer("table", table, persistent=False)
        own = torch.zeros(1, 1) if bias is None else by_distance(bias, torch.zeros(1, dtype=torch.long))
        self.own: Tensor
        self.register_buffer("own", own.reshape(1, -1, 1, 1), persistent=False)
        self.columns: Tensor
        self.register_buffer("columns", torch.arange(target, 2 * target, dtype=torch.int32), persistent=False)

    def forward(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Position int32 [1] → [1, heads, 1, target] and [1, heads, 1, 1]; one head stands for all where positions are a table."""
        past = F.embedding(self.columns - position, self.table)
        return past.t()[None, :, None, :], self.own


def by_distance(bias: RelativeBias, distances: Tensor) -> Tensor:
    """Rows of a stack's bias, float32 [distances, heads]."""
    reach = bias.max_distance
    return bias.table.detach()[distances.clamp(-reach, reach) + reach].clone()


def scaled(norm: nn.Module | None, factor: float) -> nn.Module | None:
    """A norm whose result is multiplied by a factor; only families with a last norm have one other than 1."""
    if norm is None or factor == 1.0:
        return norm
    norm = deepcopy(norm)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.mul_(factor)
    return norm


def step_inputs(spec: GraphSpec, *, source: int, target: int) -> Mapping[str, Tensor]:
    """Example inputs of ``StepProgram``, which fix its shapes."""
    stack = spec.decoder
    inputs = {
        "token_ids": torch.zeros(1, 1, dtype=torch.int32),
        "position": torch.zeros(1, dtype=torch.int32),
        "source_bias": torch.zeros(1, 1, 1, source),
    }
    for name, length in (("cross", source), ("self", target)):
        inputs |= {f"{name}_{part}": torch.zeros(1, stack.heads, length, stack.head_dim) for part in range(2 * stack.layers)}
    return inputs


def encode_inputs(length: int) -> Mapping[str, Tensor]:
    """Example inputs of ``EncodeProgram``."""
    return {"input_ids": torch.zeros(1, length, dtype=torch.int32), "attention_mask": torch.ones(1, length)}

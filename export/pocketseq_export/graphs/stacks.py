"""The encoder and the decoder: layers of sublayers with residual sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pocketseq_export.graphs.positions import relative_bias
from pocketseq_export.graphs.spec import GraphSpec
from pocketseq_export.graphs.sublayers import CrossAttention, FeedForward, KeyValue, SelfAttention, norm, split_heads


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with its norm."""

    def __init__(self, spec: GraphSpec) -> None:
        super().__init__()
        self.attention_norm = norm(spec)
        self.attention = SelfAttention(spec, spec.encoder)
        self.ffn_norm = norm(spec)
        self.ffn = FeedForward(spec, spec.encoder)


class DecoderLayer(nn.Module):
    """Self-attention, attention over the source, and feed-forward, each with its norm."""

    def __init__(self, spec: GraphSpec) -> None:
        super().__init__()
        self.attention_norm = norm(spec)
        self.attention = SelfAttention(spec, spec.decoder)
        self.cross_norm = norm(spec)
        self.cross = CrossAttention(spec)
        self.ffn_norm = norm(spec)
        self.ffn = FeedForward(spec, spec.decoder)


class Embedding(nn.Module):
    """Tokens and, unless positions are relative, their positions."""

    def __init__(self, spec: GraphSpec, tokens: nn.Embedding) -> None:
        super().__init__()
        self.tokens = tokens
        self.scale = spec.embedding_scale
        self.positions = None if spec.max_positions is None else nn.Embedding(spec.max_positions, spec.d_model)
        self.norm = norm(spec) if spec.embedding_norm else None

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Token ids [batch, sequence] at positions [sequence] → [batch, sequence, d_model]."""
        x: Tensor = self.tokens(ids)
        if self.scale != 1.0:
            x = x * self.scale
        if self.positions is not None:
            x = x + self.positions(positions)
        if self.norm is not None:
            x = self.norm(x)
        return x


class Residual:
    """The running sum of a stack, with norms where the family puts them."""

    def __init__(self, spec: GraphSpec, x: Tensor) -> None:
        self._before = spec.norm_place == "pre"
        self.x = x

    def add(self, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> None:
        """Run one sublayer and add what it says."""
        if self._before:
            self.x = self.x + sublayer(norm(self.x))
        else:
            self.x = norm(self.x + sublayer(self.x))


class Encoder(nn.Module):
    """Source tokens → their last states, and the keys and values that the decoder's cross-attention reads."""

    def __init__(self, spec: GraphSpec, tokens: nn.Embedding) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = Embedding(spec, tokens)
        self.bias = relative_bias(spec, spec.encoder.heads)
        self.layers = nn.ModuleList([EncoderLayer(spec) for _ in range(spec.encoder.layers)])
        self.norm = norm(spec) if spec.norm_place == "pre" else None
        # Key and value of decoder layer 0, key and value of layer 1, …: one projection for all of them.
        self.cross_key_value = nn.Linear(spec.d_model, 2 * spec.decoder.layers * spec.decoder.inner_dim, bias=spec.bias)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids [batch, source] with the additive mask [batch, 1, 1, source] → states [batch, source, d_model]."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        bias = mask if self.bias is None else mask + self.bias(positions, positions)
        residual = Residual(self.spec, self.embedding(ids, positions))
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)

            def attention(x: Tensor, module: SelfAttention = layer.attention) -> Tensor:
                query, own = module.project(x)
                y: Tensor = module(query, own, bias)
                return y

            residual.add(layer.attention_norm, attention)
            residual.add(layer.ffn_norm, layer.ffn)
        return residual.x if self.norm is None else self.norm(residual.x)

    def cross(self, states: Tensor) -> list[KeyValue]:
        """Keys and values of every decoder layer's cross-attention."""
        layers, heads = self.spec.decoder.layers, self.spec.decoder.heads
        parts = split_heads(self.cross_key_value(states), 2 * layers * heads).chunk(2 * layers, dim=1)
        return [KeyValue(parts[2 * layer], parts[2 * layer + 1]) for layer in range(layers)]


class Decoder(nn.Module):
    """Target tokens after those in the cache → their last states, and what the cache gains."""

    def __init__(self, spec: GraphSpec, tokens: nn.Embedding) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = Embedding(spec, tokens)
        self.bias = relative_bias(spec, spec.decoder.heads)
        self.layers = nn.ModuleList([DecoderLayer(spec) for _ in range(spec.decoder.layers)])
        self.norm = norm(spec) if spec.norm_place == "pre" else None

    def forward(
        self, ids: Tensor, position: int, mask: Tensor, cross: Sequence[KeyValue], cache: Sequence[KeyValue]
    ) -> tuple[Tensor, list[KeyValue]]:
        """Run a chunk of tokens.

        Args:
            ids: int64 [batch, query], causal inside the chunk.
            position: Tokens already in the cache.
            mask: Additive mask of the source, float32 [batch, 1, 1, source].
            cross: Keys and values of the source, for each layer.
            cache: Keys and values of the tokens before, for each layer.

        Returns:
            States [batch, query, d_model], and the keys and values of the new tokens alone.
        """
        keys = torch.arange(position + ids.shape[1], device=ids.device)
        queries = keys[position:]
        bias = torch.zeros(len(queries), len(keys), device=ids.device)
        bias = bias.masked_fill(keys[None, :] > queries[:, None], torch.finfo(torch.float32).min)
        if self.bias is not None:
            bias = bias + self.bias(queries, keys)
        residual = Residual(self.spec, self.embedding(ids, queries))
        new: list[KeyValue] = []
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            before, source = cache[index], cross[index]

            def attention(x: Tensor, module: SelfAttention = layer.attention, before: KeyValue = before) -> Tensor:
                query, own = module.project(x)
                new.append(own)
                key, value = torch.cat([before.key, own.key], dim=2), torch.cat([before.value, own.value], dim=2)
                y: Tensor = module(query, KeyValue(key, value), bias)
                return y

            def cross_attention(x: Tensor, module: CrossAttention = layer.cross, source: KeyValue = source) -> Tensor:
                y: Tensor = module(x, source, mask)
                return y

            residual.add(layer.attention_norm, attention)
            residual.add(layer.cross_norm, cross_attention)
            residual.add(layer.ffn_norm, layer.ffn)
        return (residual.x if self.norm is None else self.norm(residual.x)), new

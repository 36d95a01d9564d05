"""One encoder-decoder for all families, with the two entry points that every runtime has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pocketseq_export.graphs.spec import GraphSpec
from pocketseq_export.graphs.stacks import Decoder, Encoder
from pocketseq_export.graphs.sublayers import KeyValue


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the decoder needs to know of a source."""

    cross: tuple[KeyValue, ...]
    """Keys and values of each decoder layer's cross-attention."""
    pooled: Tensor
    """Mean of the last states over the tokens that are not padding, float32 [batch, d_model]."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a chunk of target tokens brings."""

    logprobs: Tensor
    """Log-softmax of the raw logits, float32 [batch, query, vocab]."""
    new: tuple[KeyValue, ...]
    """Keys and values of the chunk's tokens, for each decoder layer."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Longest sequences of which programs of fixed shapes must be capable; others take what the positions allow."""

    source: int = 256
    """Tokens of a source."""
    target: int = 128
    """Tokens of an answer, start token included."""

    def within(self, positions: int | None) -> Reach:
        """The same, but no further than a table of positions."""
        if positions is None:
            return self
        return Reach(min(self.source, positions), min(self.target, positions))


class EncoderDecoder(nn.Module):
    """A compact encoder-decoder selected by a spec; it holds the weights from which every program is written."""

    def __init__(self, spec: GraphSpec, reach: Reach | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.reach = (reach or Reach()).within(spec.max_positions)
        tokens = nn.Embedding(spec.source_vocab_size, spec.d_model)
        self.encoder = Encoder(spec, tokens)
        self.decoder = Decoder(spec, tokens if spec.shared_embedding else nn.Embedding(spec.vocab_size, spec.d_model))
        self.output = nn.Linear(spec.d_model, spec.vocab_size, bias=spec.output_bias)
        if spec.tied_output:
            self.output.weight = self.decoder.embedding.tokens.weight

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        """Read a source once.

        Args:
            input_ids: int64 [batch, source].
            attention_mask: int64 [batch, source], 1 where there is a token and 0 where there is padding.
        """
        states = self.encoder(input_ids, additive_mask(attention_mask))
        weight = attention_mask.to(states.dtype).unsqueeze(-1)
        pooled = (states * weight).sum(dim=1) / weight.sum(dim=1)
        return Encoded(tuple(self.encoder.cross(states)), pooled)

    def step(
        self, token_ids: Tensor, position: int, attention_mask: Tensor, cross: Sequence[KeyValue], cache: Sequence[KeyValue]
    ) -> Stepped:
        """Read a chunk of target tokens and say what may follow each of them.

        Args:
            token_ids: int64 [batch, query]; a token sees those before it in the chunk and all in the cache.
            position: Tokens already in the cache.
            attention_mask: int64 [batch, source], as given to ``encode``.
            cross: ``Encoded.cross``.
            cache: For each decoder layer the keys and values so far, [batch, heads, position, head_dim]; see ``start``.
        """
        states, new = self.decoder(token_ids, position, additive_mask(attention_mask), cross, cache)
        logits = self.output(states * self.spec.logit_scale)
        return Stepped(torch.log_softmax(logits, dim=-1), tuple(new))

    def start(self, batch: int) -> tuple[KeyValue, ...]:
        """An empty cache."""
        stack = self.spec.decoder
        empty = torch.zeros(batch, stack.heads, 0, stack.head_dim)
        return tuple(KeyValue(empty, empty) for _ in range(stack.layers))


def additive_mask(attention_mask: Tensor) -> Tensor:
    """[batch, source] of 1 and 0 → [batch, 1, 1, source] of 0 and the lowest number."""
    lowest = torch.finfo(torch.float32).min
    return (1.0 - attention_mask.float())[:, None, None, :] * lowest

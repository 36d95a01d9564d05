"""Shapes: models built anew, by name or by number.

An encoder is run once and may be deep; a decoder runs for every token and should be shallow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

Preset: TypeAlias = Literal["nano", "tiny", "small", "base"]

_NEIGHBOUR_BIAS: Final = 4.0
"""Head start, in logits, of the one offset that a head favours."""
_NEAR_SLOPES: Final = (0.5, 0.15)
"""Fall of a head's logits with distance, as in Press et al. 2022, "Train Short, Test Long"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Layers and widths of a T5."""

    encoder_layers: int
    decoder_layers: int
    d_model: int
    """Width."""
    d_ff: int
    """Width of the feed-forward layers."""
    heads: int
    """Attention heads; they share the width evenly."""


PRESETS: Final[dict[Preset, Shape]] = {
    "nano": Shape(encoder_layers=6, decoder_layers=2, d_model=192, d_ff=768, heads=6),
    "tiny": Shape(encoder_layers=6, decoder_layers=2, d_model=256, d_ff=1024, heads=8),
    "small": Shape(encoder_layers=8, decoder_layers=2, d_model=320, d_ff=1280, heads=5),
    "base": Shape(encoder_layers=12, decoder_layers=1, d_model=384, d_ff=1536, heads=6),
}
"""Students by name: with 8,000 tokens nano and tiny have 5.4 and 8.9 million parameters, with 16,000 small and base
18.2 and 29.7."""


def new_t5(
    shape: Shape, *, vocab_size: int, pad_id: int, end_id: int, start_id: int | None = None, dropout: float = 0.0
) -> PreTrainedModel:
    """Build an untrained T5: normalised before each sublayer, relative positions, one table for all embeddings.

    The encoder's heads begin with what small updates reach only slowly: each looks at a neighbour of its own, the last two at what
    is near. In short trials on a CPU the place of a slip was found earlier for it.

    Args:
        shape: Layers and widths.
        vocab_size: Tokens.
        pad_id: Token that fills up.
        end_id: Token that ends an answer.
        start_id: Token that the decoder starts from; the padding's if not given, as T5 does.
        dropout: Share of activations dropped in training.
    """
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocab_size,
            d_model=shape.d_model,
            d_kv=shape.d_model // shape.heads,
            d_ff=shape.d_ff,
            num_heads=shape.heads,
            num_layers=shape.encoder_layers,
            num_decoder_layers=shape.decoder_layers,
            dropout_rate=dropout,
            feed_forward_proj="relu",
            tie_word_embeddings=True,
            pad_token_id=pad_id,
            eos_token_id=end_id,
            decoder_start_token_id=pad_id if start_id is None else start_id,
        )
    )
    look_at_neighbours(model)
    return model


@torch.no_grad()
def look_at_neighbours(model: PreTrainedModel) -> None:
    """Begin the encoder of an untrained T5 so that each head favours one offset, the last two what is near."""
    table = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # float32 [bucket, head]
    half = table.size(0) // 2  # the upper half is for what comes after
    table.zero_()
    for head in range(table.size(1) - 2):
        distance = head // 2 + 1
        table[distance if head % 2 else half + distance, head] = _NEIGHBOUR_BIAS
    distances = torch.arange(table.size(0)) % half
    for head, slope in zip((-2, -1), _NEAR_SLOPES, strict=True):
        table[:, head] = -slope * distances

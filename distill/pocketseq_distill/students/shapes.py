"""Shapes: models built anew, by name or by number.

An encoder is run once and may be deep; a decoder runs for every token and should be shallow.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from pocketseq_distill.students.beginnings import begin
from pocketseq_distill.students.settings import Preset


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
    shape: Shape,
    *,
    vocab_size: int,
    pad_id: int,
    end_id: int,
    start_id: int | None = None,
    dropout: float = 0.0,
    spellings: Sequence[str] = (),
) -> PreTrainedModel:
    """Build an untrained T5: normalised before each sublayer, relative positions, one table for all embeddings.

    It knows what texts have in common (see ``beginnings``).

    Args:
        shape: Layers and widths.
        vocab_size: Tokens.
        pad_id: Token that fills up.
        end_id: Token that ends an answer.
        start_id: Token that the decoder starts from; the padding's if not given, as T5 does.
        dropout: Share of activations dropped in training.
        spellings: Text of each token, by id, where it is known.
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
    begin(model, spellings)
    return model


_DROPOUTS: Final = ("dropout_rate", "dropout")
"""What the families call it."""


def dropout_of(model: PreTrainedModel) -> float:
    """Share of its activations that a model drops in training."""
    return next((float(rate) for name in _DROPOUTS if (rate := getattr(model.config, name, None)) is not None), 0.0)


def with_dropout(model: PreTrainedModel, rate: float) -> PreTrainedModel:
    """The same model, which drops another share of its activations in training."""
    config = copy.deepcopy(model.config)
    for name in _DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, rate)
    changed: PreTrainedModel = type(model)(config)
    changed.load_state_dict(model.state_dict())
    changed.generation_config = copy.deepcopy(model.generation_config)
    return changed.to(device=model.device, dtype=model.dtype)

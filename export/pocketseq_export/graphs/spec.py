"""The shape of an encoder-decoder: everything that tells one supported family from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Norm: TypeAlias = Literal["rms", "layer"]
NormPlace: TypeAlias = Literal["pre", "post"]
Positions: TypeAlias = Literal["relative", "table"]
Activation: TypeAlias = Literal["relu", "gelu", "gelu_tanh", "silu"]


@dataclass(frozen=True, slots=True)
class StackSpec:
    """The shape of the encoder's or the decoder's layers."""

    layers: int
    """Number of layers."""
    heads: int
    """Attention heads of a layer."""
    head_dim: int
    """Width of a head; heads × head_dim need not be the model's width."""
    ffn_dim: int
    """Width inside the feed-forward sublayer."""

    @property
    def inner_dim(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """An encoder-decoder of any supported family."""

    family: str
    """Name of the family, as in ``config.json``'s ``model_type``."""
    source_vocab_size: int
    """Rows of the encoder's token table."""
    vocab_size: int
    """Rows of the decoder's token table, and width of the output."""
    d_model: int
    """Width of the model."""
    encoder: StackSpec
    """The encoder's layers."""
    decoder: StackSpec
    """The decoder's layers."""
    norm: Norm
    """``rms`` scales only (T5); ``layer`` centres, scales and shifts."""
    norm_place: NormPlace
    """``pre``: before each sublayer and once more after the last layer; ``post``: after each residual sum."""
    norm_epsilon: float
    """Added to the variance."""
    embedding_norm: bool
    """Whether the embedded tokens are normalised before the first layer."""
    positions: Positions
    """``relative``: a bias of attention scores by bucketed distance; ``table``: learned or sinusoidal vectors added to tokens."""
    max_positions: int | None
    """Rows of the position table, hence the longest sequence; None where positions are relative."""
    first_position: int
    """Number of the first token's position where the table is a formula (M2M100 counts from the padding token's number)."""
    relative_buckets: int
    """Buckets of the relative distance; 0 where positions are not relative."""
    relative_max_distance: int
    """Distance from which on all share the last bucket; 0 where positions are not relative."""
    activation: Activation
    """Non-linearity of the feed-forward sublayer."""
    gated: bool
    """Whether the activated half of the feed-forward projection multiplies the other half."""
    bias: bool
    """Whether projections have a bias."""
    scaled_attention: bool
    """Whether attention scores are divided by √head_dim; T5 has that in its weights."""
    embedding_scale: float
    """Factor of embedded tokens, before positions are added."""
    logit_scale: float
    """Factor of the decoder's last state, before the output projection."""
    shared_embedding: bool
    """Whether encoder and decoder read one token table."""
    tied_output: bool
    """Whether the output projection is the decoder's token table."""
    output_bias: bool
    """Whether the logits have a bias."""

    def attention_scale(self, stack: StackSpec) -> float:
        """Factor of attention scores in a stack."""
        return stack.head_dim**-0.5 if self.scaled_attention else 1.0

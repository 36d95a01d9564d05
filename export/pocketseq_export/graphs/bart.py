"""BART and what shares its architecture: mBART, Marian/OPUS-MT, Pegasus, M2M100/NLLB."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from pocketseq_export.graphs.positions import sinusoids
from pocketseq_export.graphs.reading import activation_of, biased, same
from pocketseq_export.graphs.spec import GraphSpec, StackSpec

TABLE_OFFSET: Final[Mapping[str, int]] = {"bart": 2, "mbart": 2, "marian": 0, "pegasus": 0}
"""Rows at the head of a family's position tables that no position uses. M2M100 stores no table: it is a formula of the position."""
NORMS_FIRST: Final = frozenset({"m2m_100", "mbart", "pegasus"})
"""Families whose norms stand before the sublayers."""
NORMED_EMBEDDINGS: Final = frozenset({"bart", "mbart"})
"""Families that normalise the embedded tokens."""


def bart_spec(config: Any, weights: Mapping[str, Tensor]) -> GraphSpec:
    """Read the shape of a BART from its configuration; the weights tell what is tied."""
    encoder_heads, decoder_heads = config.encoder_attention_heads, config.decoder_attention_heads
    return GraphSpec(
        family=config.model_type,
        source_vocab_size=config.vocab_size,
        vocab_size=len(weights["lm_head.weight"]),
        d_model=config.d_model,
        encoder=StackSpec(
            layers=config.encoder_layers,
            heads=encoder_heads,
            head_dim=config.d_model // encoder_heads,
            ffn_dim=config.encoder_ffn_dim,
        ),
        decoder=StackSpec(
            layers=config.decoder_layers,
            heads=decoder_heads,
            head_dim=config.d_model // decoder_heads,
            ffn_dim=config.decoder_ffn_dim,
        ),
        norm="layer",
        norm_place="pre" if config.model_type in NORMS_FIRST else "post",
        norm_epsilon=1e-5,  # the default of torch.nn.LayerNorm, which these families leave alone
        embedding_norm=config.model_type in NORMED_EMBEDDINGS,
        positions="table",
        max_positions=config.max_position_embeddings,
        first_position=config.pad_token_id + 1 if config.model_type == "m2m_100" else 0,
        relative_buckets=0,
        relative_max_distance=0,
        activation=activation_of(config.activation_function),
        gated=False,
        bias=True,
        scaled_attention=True,
        embedding_scale=math.sqrt(config.d_model) if config.scale_embedding else 1.0,
        logit_scale=1.0,
        shared_embedding=same(weights, "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"),
        tied_output=same(weights, "model.decoder.embed_tokens.weight", "lm_head.weight"),
        output_bias=biased(weights),
    )


def bart_weights(spec: GraphSpec, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of a BART their places in ``EncoderDecoder``."""
    found = {"output.weight": weights["lm_head.weight"]}
    if spec.output_bias:
        found["output.bias"] = weights["final_logits_bias"].reshape(-1)

    def take(new: str, *old: str) -> None:
        for kind in ("weight", "bias"):
            found[f"{new}.{kind}"] = torch.cat([weights[f"{name}.{kind}"] for name in old])

    for stack in ("encoder", "decoder"):
        source = f"model.{stack}"
        found[f"{stack}.embedding.tokens.weight"] = weights[f"{source}.embed_tokens.weight"]
        if spec.family in TABLE_OFFSET:
            table = weights[f"{source}.embed_positions.weight"][TABLE_OFFSET[spec.family] :]
        else:
            assert spec.max_positions is not None
            table = sinusoids(spec.max_positions, spec.d_model, first=spec.first_position)
        found[f"{stack}.embedding.positions.weight"] = table
        if spec.embedding_norm:
            take(f"{stack}.embedding.norm", f"{source}.layernorm_embedding")
        if spec.norm_place == "pre":
            take(f"{stack}.norm", f"{source}.layer_norm")
        for layer in range(getattr(spec, stack).layers):
            old, new = f"{source}.layers.{layer}", f"{stack}.layers.{layer}"
            take(f"{new}.attention_norm", f"{old}.self_attn_layer_norm")
            take(f"{new}.attention.query_key_value", *(f"{old}.self_attn.{part}_proj" for part in "qkv"))
            take(f"{new}.attention.output", f"{old}.self_attn.out_proj")
            if stack == "decoder":
                take(f"{new}.cross_norm", f"{old}.encoder_attn_layer_norm")
                take(f"{new}.cross.query", f"{old}.encoder_attn.q_proj")
                take(f"{new}.cross.output", f"{old}.encoder_attn.out_proj")
            take(f"{new}.ffn_norm", f"{old}.final_layer_norm")
            take(f"{new}.ffn.input", f"{old}.fc1")
            take(f"{new}.ffn.output", f"{old}.fc2")
    take(
        "encoder.cross_key_value",
        *(f"model.decoder.layers.{layer}.encoder_attn.{part}_proj" for layer in range(spec.decoder.layers) for part in "kv"),
    )
    return found

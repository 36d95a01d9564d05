"""T5 and what shares its architecture: v1.1, FLAN, ByT5, CodeT5, mT5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pocketseq_export.graphs.positions import distance_buckets
from pocketseq_export.graphs.reading import activation_of, biased, same
from pocketseq_export.graphs.spec import GraphSpec, StackSpec


def t5_spec(config: Any, weights: Mapping[str, Tensor]) -> GraphSpec:
    """Read the shape of a T5 from its configuration; the weights tell what is tied."""
    # T5 (not mT5) checkpoints that tie the output to the token table scale the last state down to make up for it.
    scaled = bool(getattr(config, "scale_decoder_outputs", False))
    return GraphSpec(
        family=config.model_type,
        source_vocab_size=config.vocab_size,
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        encoder=StackSpec(layers=config.num_layers, heads=config.num_heads, head_dim=config.d_kv, ffn_dim=config.d_ff),
        decoder=StackSpec(layers=config.num_decoder_layers, heads=config.num_heads, head_dim=config.d_kv, ffn_dim=config.d_ff),
        norm="rms",
        norm_place="pre",
        norm_epsilon=config.layer_norm_epsilon,
        embedding_norm=False,
        positions="relative",
        max_positions=None,
        first_position=0,
        relative_buckets=config.relative_attention_num_buckets,
        relative_max_distance=config.relative_attention_max_distance,
        activation=activation_of(config.dense_act_fn),
        gated=config.is_gated_act,
        bias=False,
        scaled_attention=False,
        embedding_scale=1.0,
        logit_scale=config.d_model**-0.5 if scaled else 1.0,
        shared_embedding=same(weights, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
        tied_output=same(weights, "decoder.embed_tokens.weight", "lm_head.weight"),
        output_bias=biased(weights),  # it has none of its own; see ``author``
    )


def t5_weights(spec: GraphSpec, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of a T5 their places in ``EncoderDecoder``."""
    found = {"output.weight": weights["lm_head.weight"]}
    if spec.output_bias:
        found["output.bias"] = weights["final_logits_bias"].reshape(-1)
    for stack in ("encoder", "decoder"):
        found[f"{stack}.embedding.tokens.weight"] = weights[f"{stack}.embed_tokens.weight"]
        found[f"{stack}.norm.weight"] = weights[f"{stack}.final_layer_norm.weight"]
        buckets = distance_buckets(
            buckets=spec.relative_buckets, max_distance=spec.relative_max_distance, bidirectional=stack == "encoder"
        )
        found[f"{stack}.bias.table"] = weights[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"][buckets]
        for layer in range(getattr(spec, stack).layers):
            old, new = f"{stack}.block.{layer}.layer", f"{stack}.layers.{layer}"
            attention = f"{old}.0.SelfAttention"
            found[f"{new}.attention_norm.weight"] = weights[f"{old}.0.layer_norm.weight"]
            found[f"{new}.attention.query_key_value.weight"] = torch.cat([weights[f"{attention}.{part}.weight"] for part in "qkv"])
            found[f"{new}.attention.output.weight"] = weights[f"{attention}.o.weight"]
            if stack == "decoder":
                found[f"{new}.cross_norm.weight"] = weights[f"{old}.1.layer_norm.weight"]
                found[f"{new}.cross.query.weight"] = weights[f"{old}.1.EncDecAttention.q.weight"]
                found[f"{new}.cross.output.weight"] = weights[f"{old}.1.EncDecAttention.o.weight"]
            last = f"{old}.{2 if stack == 'decoder' else 1}"
            inputs = ("wi_0", "wi_1") if spec.gated else ("wi",)
            found[f"{new}.ffn_norm.weight"] = weights[f"{last}.layer_norm.weight"]
            found[f"{new}.ffn.input.weight"] = torch.cat([weights[f"{last}.DenseReluDense.{name}.weight"] for name in inputs])
            found[f"{new}.ffn.output.weight"] = weights[f"{last}.DenseReluDense.wo.weight"]
    found["encoder.cross_key_value.weight"] = torch.cat(
        [
            weights[f"decoder.block.{layer}.layer.1.EncDecAttention.{part}.weight"]
            for layer in range(spec.decoder.layers)
            for part in "kv"
        ]
    )
    return found

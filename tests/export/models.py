"""Tiny real models of every supported family, built from their own configuration classes."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import BartConfig, MarianConfig, MBartConfig, MT5Config, T5Config

VOCAB = 96


def t5(**changes: Any) -> Any:
    settings = {"vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
    settings |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12, "decoder_start_token_id": 0}
    return build("T5ForConditionalGeneration", T5Config(**(settings | changes)))


def untied_t5() -> Any:
    model = t5(feed_forward_proj="gated-gelu", num_decoder_layers=1)
    model.config.scale_decoder_outputs = False
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    return model


def mt5() -> Any:
    settings = {"vocab_size": VOCAB, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 1, "num_heads": 4}
    return build("MT5ForConditionalGeneration", MT5Config(**settings, decoder_start_token_id=0))


def bart(kind: str = "Bart", **changes: Any) -> Any:
    config: Any = {"Bart": BartConfig, "MBart": MBartConfig}[kind]
    return build(f"{kind}ForConditionalGeneration", config(**(_bart_settings() | changes)))


def marian(**changes: Any) -> Any:
    settings = _bart_settings() | {"activation_function": "swish", "scale_embedding": True, "pad_token_id": VOCAB - 1}
    settings |= {"decoder_start_token_id": VOCAB - 1, "eos_token_id": 0, "forced_eos_token_id": None}
    return build("MarianMTModel", MarianConfig(**(settings | changes)))


def build(name: str, config: Any) -> Any:
    """A model whose random weights are large enough that its answers depend on its input."""
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    return model


def _bart_settings() -> dict[str, Any]:
    sizes = {"vocab_size": VOCAB, "d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 64, "max_position_embeddings": 40}
    return sizes | {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 2}


FAMILIES = {
    "t5-relu-tied": t5,
    "t5-gated-untied": untied_t5,
    "mt5": mt5,
    "bart": bart,
    "mbart": lambda: bart("MBart", scale_embedding=True),
    "marian": marian,
    "marian-two-vocabularies": lambda: marian(share_encoder_decoder_embeddings=False, decoder_vocab_size=80, pad_token_id=79, decoder_start_token_id=79),
}

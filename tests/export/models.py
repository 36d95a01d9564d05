"""Tiny real models of every supported family, built from their own configuration classes."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import BartConfig, M2M100Config, MarianConfig, MBartConfig, MT5Config, PegasusConfig, T5Config

from pocketseq.checkpoint import CheckpointCard
from pocketseq.template import Field, Template

VOCAB = 112
"""A number that is the size of nothing else, so that tests can tell token tables from other weights."""
MAX_NEW_TOKENS = 12
CROSS_OUTPUTS = ("EncDecAttention.o.weight", "encoder_attn.out_proj.weight")
"""What brings the source into the decoder: these weigh more, or a model of noise would say the same to everything."""


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


def byt5() -> Any:
    """As ByT5: bytes for tokens, an encoder three times as deep as the decoder, gated, with an output of its own."""
    return t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_layers=3, num_decoder_layers=1, d_ff=80)


def bart(kind: str = "Bart", **changes: Any) -> Any:
    config: Any = {"Bart": BartConfig, "MBart": MBartConfig, "Pegasus": PegasusConfig, "M2M100": M2M100Config}[kind]
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
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * (0.3 if name.endswith(CROSS_OUTPUTS) else 0.1))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
            model.final_logits_bias[..., config.eos_token_id] = -4.0  # or the first thing that some say is the end
    return model


def _bart_settings() -> dict[str, Any]:
    sizes = {"vocab_size": VOCAB, "d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 64, "max_position_embeddings": 40}
    return sizes | {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 2}


def m2m100(**changes: Any) -> Any:
    """Says the target's language first; its positions skip the padding token (1), which may stand nowhere but at the end."""
    model = bart("M2M100", **({"decoder_start_token_id": 2, "scale_embedding": True} | changes))
    model.generation_config.forced_bos_token_id = 7
    return model


FAMILIES = {
    "t5": t5,
    "t5-v1.1": untied_t5,
    "mt5": mt5,
    "byt5": byt5,
    "codet5": lambda: t5(d_kv=16, num_decoder_layers=1, n_positions=512),
    "bart": bart,
    "mbart": lambda: bart("MBart", scale_embedding=True, decoder_start_token_id=2),
    "marian": marian,
    "marian-two-vocabularies": lambda: marian(
        share_encoder_decoder_embeddings=False, decoder_vocab_size=80, pad_token_id=79, decoder_start_token_id=79
    ),
    "pegasus": lambda: bart(
        "Pegasus", pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, scale_embedding=True, forced_eos_token_id=None
    ),
    "m2m100": m2m100,
    "nllb": lambda: m2m100(activation_function="relu", max_position_embeddings=36, encoder_layers=1),
}
"""FLAN-T5 is T5 v1.1; NLLB is M2M100 with another vocabulary."""


def write_checkpoint(directory: Path, model: Any, *, template: Template | None = None) -> Path:
    """A checkpoint with a tokenizer of single characters."""
    model.save_pretrained(directory)
    character_tokenizer(model).save(str(directory / "tokenizer.json"))
    if template is None:
        template = Template(fields=(Field(name="text", max_tokens=24),), primary="text")
    CheckpointCard(task="noise", template=template, max_new_tokens=MAX_NEW_TOKENS, license="CC0-1.0").write(directory)
    return directory


def character_tokenizer(model: Any) -> Tokenizer:
    special = {model.config.pad_token_id: "<pad>", model.config.eos_token_id: "</s>"}
    characters = iter("\ufffd" + string.ascii_letters + string.digits + " " + string.punctuation)
    vocabulary = {special.get(number) or next(characters): number for number in range(80)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="\ufffd"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(sorted(special.values()))
    return tokenizer

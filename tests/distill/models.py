"""Tiny real models of the supported families, and a task that they can learn in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from pocketseq_distill.rows import TokenRows

VOCAB = 48
MakeModel: TypeAlias = Callable[..., PreTrainedModel]


def make_t5(
    *, layers: int = 2, decoder_layers: int = 2, dropout: float = 0.0, seed: int = 0, vocab: int = VOCAB
) -> PreTrainedModel:
    """A T5 of width 16."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=vocab,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=layers,
        num_decoder_layers=decoder_layers,
        num_heads=2,
        dropout_rate=dropout,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config).eval()


def make_bart(*, layers: int = 2, decoder_layers: int = 2, seed: int = 0) -> PreTrainedModel:
    """A BART of width 16."""
    torch.manual_seed(seed)
    return BartForConditionalGeneration(BartConfig(**_bart(layers, decoder_layers), forced_eos_token_id=None)).eval()


def make_marian(*, layers: int = 2, decoder_layers: int = 2, seed: int = 0) -> PreTrainedModel:
    """A Marian of width 16."""
    torch.manual_seed(seed)
    return MarianMTModel(MarianConfig(**_bart(layers, decoder_layers), forced_eos_token_id=None)).eval()


def _bart(layers: int, decoder_layers: int) -> dict[str, object]:
    return {
        "vocab_size": VOCAB,
        "d_model": 16,
        "encoder_layers": layers,
        "decoder_layers": decoder_layers,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 64,
        "dropout": 0.0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 0,
        "decoder_start_token_id": 0,
    }


FAMILIES: dict[str, MakeModel] = {"t5": make_t5, "bart": make_bart, "marian": make_marian}


def copy_rows(count: int = 64, *, seed: int = 0, shortest: int = 3, longest: int = 9) -> TokenRows:
    """Rows that ask for the first two tokens of the input."""
    random = np.random.default_rng(seed)
    sources = [random.integers(3, VOCAB, size=random.integers(shortest, longest + 1)).tolist() for _ in range(count)]
    return TokenRows.of(sources, [[*source[:2], 1] for source in sources])

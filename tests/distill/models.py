"""Tiny real models of the supported families, and a task that they can learn in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TypeAlias

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from pocketseq.checkpoint import CheckpointCard
from pocketseq.examples import Example
from pocketseq.template import Field, Template
from pocketseq_distill.checkpoints import save_checkpoint
from pocketseq_distill.corpus.vocabulary import save_tokenizer, train_tokenizer
from pocketseq_distill.rows import TokenRows

from .weights import loud

VOCAB = 48
OPINIONS = {
    "do_sample": True,
    "num_beams": 4,
    "temperature": 0.5,
    "top_p": 0.8,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "length_penalty": 2.0,
    "min_length": 7,
    "forced_eos_token_id": 1,
    "suppress_tokens": [3, 4, 5, 6, 7, 8],
}
"""How published checkpoints would have themselves asked, by their ``generation_config.json``."""
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


TEMPLATE = Template(
    fields=(Field(name="line", max_tokens=24), Field(name="after", max_tokens=8, truncate="right", prefix="<after>")),
    primary="line",
    edits="line",
)
WORDS = ("for", "while", "return", "value", "name", "index", "range", "self", "print", "total")


def repair_examples(count: int, *, seed: int = 0) -> list[Example]:
    """Lines in which one word lost its last letter, and every fourth line in which nothing is wrong."""
    random = Random(seed)
    examples = []
    for number in range(count):
        words = random.choices(WORDS, k=random.randint(2, 5))
        target = " ".join(words)
        if clean := number % 4 == 3:
            line = target
        else:
            place = random.randrange(len(words))
            line = " ".join([*words[:place], words[place][:-1], *words[place + 1 :]])
        fields = {"line": line, "after": random.choice(WORDS)}
        examples.append(
            Example(id=f"{seed}-{number}", fields=fields, target=target, kind="clean" if clean else "cut", source=f"{number}")
        )
    return examples


def make_checkpoint(path: Path, *, template: Template = TEMPLATE, decoder_layers: int = 2, task: str = "repair") -> Path:
    """A T5 with random weights, a tokenizer trained here and a card."""
    texts = [example.target for example in repair_examples(50)]
    tokenizer = train_tokenizer(texts, vocab_size=360, template=template)
    save_tokenizer(tokenizer, path.with_name("tokenizer"))
    model = make_t5(decoder_layers=decoder_layers, vocab=tokenizer.get_vocab_size())
    card = CheckpointCard(task=task, template=template, max_new_tokens=8, license="Apache-2.0")
    save_checkpoint(model, path, card=card, tokenizer=path.with_name("tokenizer"))
    return path


def make_causal(path: Path, texts: Sequence[str]) -> Path:
    """A GPT-2 of width 16 with loud weights, a byte-level tokenizer trained on the texts, and no token for padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False)
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(path)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=128, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    loud(model)
    model.save_pretrained(path)
    return path

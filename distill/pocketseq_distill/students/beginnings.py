"""Beginnings: what an untrained T5 knows before its first update.

A short training from random weights goes by for the greater part in finding out what any text has in common: that neighbours
belong together, that tokens spelt alike mean alike, and that a name found in the input goes on here as it went on there. All
three can be written into the weights, and are then there to be kept, bent or unlearnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pocketseq.tokenizer import TextTokenizer

_NEIGHBOUR_BIAS: Final = 4.0
"""Head start, in logits, of the one offset that a head favours."""
_PREVIOUS_BIAS: Final = 8.0
"""The same where a head is to see the token before and nothing else."""
_PREVIOUS_HEAD: Final = 1
"""The encoder's head that sees the token before."""
_NEAR_SLOPES: Final = (0.5, 0.15)
"""Fall of a head's logits with distance, as in Press et al. 2022, "Train Short, Test Long"."""
_FOLLOW_GAIN: Final = 2.0
"""How loudly a token is told of the one before it, in units of a token's embedding."""
_FOLLOW_SHARPNESS: Final = 0.5
"""Scale of the queries that look for it: with it the right place has most of the attention, and the others still some."""
_SPELLING_SHARES: Final = (0.4, 0.35, 0.25)
"""Shares of an embedding's variance that are a token's own, its word's whatever the case and the space before it, and its
letters'."""


@torch.no_grad()
def begin(model: PreTrainedModel, spellings: Sequence[str] = ()) -> None:
    """Write what texts have in common into an untrained T5, in place.

    Args:
        model: A T5 with fresh weights.
        spellings: Text of each token, by id; empty for those without, and left out where nothing is known of them.
    """
    look_at_neighbours(model)
    _fall_silent(model)
    copy_what_follows(model)
    if spellings:
        spell(model.get_input_embeddings().weight, spellings)


@torch.no_grad()
def look_at_neighbours(model: PreTrainedModel) -> None:
    """Let each of the encoder's heads favour one offset, the last two what is near.

    Args:
        model: A T5; changed in place.
    """
    table = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # float32 [bucket, head]
    half = table.size(0) // 2  # the upper half is for what comes after
    table.zero_()
    for head in range(table.size(1) - 2):
        distance = head // 2 + 1
        table[distance if head % 2 else half + distance, head] = _NEIGHBOUR_BIAS
    distances = torch.arange(table.size(0)) % half
    near = range(max(table.size(1) - 2, 0), table.size(1))  # one head alone has the last slope
    for head, slope in zip(reversed(near), reversed(_NEAR_SLOPES), strict=False):
        table[:, head] = -slope * distances


@torch.no_grad()
def copy_what_follows(model: PreTrainedModel) -> None:
    """Let the decoder look where its last token stands in the input, and lean to the token that follows there.

    This is the induction head of Olsson et al. 2022, "In-context Learning and Induction Heads", laid between encoder and decoder:
    one head of the first encoder layer tells each token of the one before it; half of the heads of each cross-attention look for
    a token that was told of the decoder's last one, and write what they find where the output layer, whose table is the
    embeddings', reads it as that token. A model of too few heads stays as it is.

    Args:
        model: A T5; changed in place.
    """
    heads, size, width = model.config.num_heads, model.config.d_kv, model.config.d_model
    followers = min(heads // 2, width // size - 1)
    if heads < 4 or followers < 1:
        return
    first = model.encoder.block[0].layer[0].SelfAttention
    first.relative_attention_bias.weight[_PREVIOUS_HEAD, _PREVIOUS_HEAD] = _PREVIOUS_BIAS
    # What is written does not reach into what is asked with, or a second layer would look for the answer of the first.
    sketch, *found = torch.split(_orthonormal(size * (followers + 1), width), size)
    told = _orthonormal(size, width)
    own = slice(_PREVIOUS_HEAD * size, (_PREVIOUS_HEAD + 1) * size)
    first.v.weight[own] = sketch
    first.o.weight[:, own] = _FOLLOW_GAIN * told.T
    for block in model.decoder.block:
        attention = block.layer[1].EncDecAttention
        for head, part in enumerate(found):
            own = slice(head * size, (head + 1) * size)
            attention.q.weight[own] = _FOLLOW_SHARPNESS * sketch
            attention.k.weight[own] = told
            attention.v.weight[own] = part
            attention.o.weight[:, own] = part.T


@torch.no_grad()
def spell(table: Tensor, spellings: Sequence[str]) -> None:
    """Let tokens that are spelt alike begin alike: one word in either case, after a space or not, and shared runs of letters.

    Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information", where words share vectors for good.

    Args:
        table: Fresh embeddings of unit variance, float32 [token, width]; changed in place.
        spellings: Text of each token, by id; a token without one keeps its embedding.
    """
    own_share, word_share, letter_share = (share**0.5 for share in _SPELLING_SHARES)
    vectors: dict[str, Tensor] = {}

    def vector(feature: str) -> Tensor:
        if feature not in vectors:
            vectors[feature] = torch.randn(table.size(1))
        return vectors[feature]

    for token, spelling in enumerate(spellings):
        word = f"^{spelling.strip().lower()}$"
        if len(word) == 2 or "\ufffd" in word:  # nothing to be seen, or a part of a character
            continue
        runs = dict.fromkeys(word[at : at + length] for length in (1, 2, 3) for at in range(len(word) - length + 1))
        letters = torch.stack([vector(run) for run in runs]).sum(0) / len(runs) ** 0.5
        table[token] = own_share * table[token] + word_share * vector(f"word {word}") + letter_share * letters


def spellings_of(tokenizer: TextTokenizer) -> list[str]:
    """Text of each token, by id; empty for the special ones."""
    return [tokenizer.decode([token]) for token in range(tokenizer.size)]


def _fall_silent(model: PreTrainedModel) -> None:
    """Let every sublayer begin by adding nothing, so that what is written beside them is heard.

    Zhang et al. 2019, "Fixup Initialization", equation 1 and below: the last matrix of each branch begins at zero.
    """
    for stack in (model.encoder, model.decoder):
        for name, weight in stack.named_parameters():
            if name.endswith(("Attention.o.weight", "DenseReluDense.wo.weight")):
                weight.zero_()


def _orthonormal(rows: int, columns: int) -> Tensor:
    """Random rows of unit length at right angles to one another, float32 [rows, columns]."""
    found: Tensor = torch.linalg.qr(torch.randn(columns, rows)).Q.T
    return found

"""An untrained T5 copies from its input, looks at neighbours, and takes tokens that are spelt alike for alike."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.corpus.vocabulary import train_tokenizer
from pocketseq_distill.published.tasks import PUBLISHED
from pocketseq_distill.students.beginnings import spell, spellings_of
from pocketseq_distill.students.shapes import Shape, new_t5

VOCAB = 400
COPIED = slice(6, 14)
"""The part of an input that the decoder has written so far."""


def untrained(heads: int = 8) -> PreTrainedModel:
    torch.manual_seed(0)
    shape = Shape(encoder_layers=2, decoder_layers=2, d_model=128, d_ff=64, heads=heads)
    model = new_t5(shape, vocab_size=VOCAB, pad_id=0, end_id=1)
    model.set_attn_implementation("eager")
    return model.eval()


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    """Rows of tokens of which none comes twice, int64 [8, 20]."""
    torch.manual_seed(1)
    return torch.stack([torch.randperm(VOCAB - 2)[:20] + 2 for _ in range(8)])


@torch.no_grad()
def test_a_decoder_looks_behind_the_place_where_its_last_token_stands(inputs: torch.Tensor) -> None:
    """With half of the heads of each layer, and with most of their attention."""
    found = untrained()(input_ids=inputs, decoder_input_ids=inputs[:, COPIED], output_attentions=True)
    behind = torch.arange(COPIED.start + 1, COPIED.stop + 1)
    for layer in found.cross_attentions:  # [row, head, written, read]
        followed = layer[:, :4, torch.arange(len(behind)), behind]
        assert followed.mean() > 0.7


@torch.no_grad()
def test_the_token_that_follows_there_is_among_the_two_likeliest(inputs: torch.Tensor) -> None:
    """The other one is the token itself, which every T5 with one table for all embeddings begins by repeating."""
    likeliest = untrained()(input_ids=inputs, decoder_input_ids=inputs[:, COPIED]).logits.topk(2).indices
    following = inputs[:, COPIED.start + 1 : COPIED.stop + 1]
    assert (likeliest == following[..., None]).any(-1).float().mean() > 0.9


def test_a_model_of_too_few_heads_begins_without_it(inputs: torch.Tensor) -> None:
    """Two heads leave none to spare; all it does is repeat."""
    with torch.no_grad():
        likeliest = untrained(heads=2)(input_ids=inputs, decoder_input_ids=inputs[:, COPIED]).logits.argmax(-1)
    assert torch.equal(likeliest, inputs[:, COPIED])


def test_each_head_of_the_encoder_favours_a_neighbour_of_its_own() -> None:
    """One to three tokens after and before it; the last two fall with distance."""
    table = untrained().encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    assert table[:, :6].argmax(0).tolist() == [17, 1, 18, 2, 19, 3]
    assert (table[:15, 6:].diff(dim=0) < 0).all()


def test_one_head_alone_sees_what_is_near(inputs: torch.Tensor) -> None:
    """There is none to favour an offset, and none to follow with."""
    model = untrained(heads=1)
    table = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    assert table.shape[1] == 1
    assert (table[:15].diff(dim=0) < 0).all()
    assert model(input_ids=inputs, decoder_input_ids=inputs[:, COPIED]).logits.isfinite().all()


def test_what_is_spelt_alike_begins_alike() -> None:
    """Case and the space before a word count for little; words that share letters are nearer than words that share none."""
    torch.manual_seed(0)
    spellings = ["", "range", " Range", "ranges", "kilo", "\ufffd"]
    table = torch.randn(len(spellings), 512)
    before = table.clone()
    spell(table, spellings)
    alike = torch.nn.functional.cosine_similarity(table[1], table[2:5])
    assert alike[0] > 0.4
    assert alike[0] > alike[1] > 0.08 > abs(alike[2])
    assert table.std() == pytest.approx(1, abs=0.1)
    assert torch.equal(table[[0, 5]], before[[0, 5]])


def test_spellings_are_of_each_token() -> None:
    """Special tokens have none, and a part of a character has a mark in its place."""
    trained = train_tokenizer(["range ranges"] * 4, vocab_size=300, template=PUBLISHED["django"].template)
    tokenizer = TextTokenizer(trained)
    spellings = spellings_of(tokenizer)
    assert len(spellings) == tokenizer.size
    assert spellings[:2] == ["", ""]
    assert {"r", "range", " ranges", "\ufffd"} <= set(spellings)

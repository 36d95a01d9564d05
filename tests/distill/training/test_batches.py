"""Batches hold rows of like extent, in an order that seed and epoch fix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.distill.models import MakeModel
from transformers import MBartConfig, MBartForConditionalGeneration

from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.rows import Distributions, TokenRows
from pocketseq_distill.training.batches import Collate, GroupedOrder, parts_of, rounded


def order(epoch: int, *, rows: int = 1003, update_rows: int = 16, seed: int = 0) -> tuple[list[int], np.ndarray]:
    lengths = np.random.default_rng(5).integers(5, 100, size=rows)
    sampler = GroupedOrder(lengths, update_rows=update_rows, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler), lengths


def test_every_row_comes_once_an_epoch() -> None:
    """The rows that do not fill an update come last."""
    indices, _ = order(0)
    assert sorted(indices) == list(range(1003))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    """The same for the same, another for another."""
    assert order(1)[0] == order(1)[0]
    assert order(1)[0] != order(2)[0]
    assert order(1)[0] != order(1, seed=1)[0]


def test_the_rows_of_an_update_are_of_like_length() -> None:
    """Padding is a small part of what it is in a random order."""

    def padding(indices: list[int], lengths: np.ndarray) -> int:
        updates = [lengths[indices[begin : begin + 16]] for begin in range(0, 992, 16)]
        return int(sum(16 * update.max() - update.sum() for update in updates))

    grouped, lengths = order(0)
    shuffled = np.random.default_rng(0).permutation(1003).tolist()
    assert padding(grouped, lengths) < 0.15 * padding(shuffled, lengths)


def test_inputs_and_answers_of_an_update_are_both_of_like_length() -> None:
    """Where one side tells little of the other, grouping by the longer of them pads far less than by their sum."""
    random = np.random.default_rng(1)
    sides = random.integers(5, 30, size=(2, 960))
    rows = TokenRows.of([[3] * size for size in sides[0]], [[3] * size for size in sides[1]])

    def padded(extents: np.ndarray) -> int:
        updates = np.array(list(GroupedOrder(extents, update_rows=16, seed=0))).reshape(-1, 16)
        return int(16 * sides[:, updates].max(2).sum())

    assert padded(rows.extents) < 0.92 * padded(sides.sum(0))


def test_updates_do_not_come_in_the_order_of_their_length() -> None:
    """A training that sees short rows first and long ones last would drift."""
    indices, lengths = order(0)
    means = [lengths[indices[begin : begin + 16]].mean() for begin in range(0, 992, 16)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_a_batch_is_padded_and_shifted_as_the_family_does(make_model: MakeModel) -> None:
    """Padding is masked in the source and ignored in the labels; decoder inputs start with the start token."""
    model = make_model()
    rows = TokenRows.of([[5, 6, 7], [8]], [[9, 1], [10, 11, 12, 1]])
    batch = Collate.of(model)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[9, 1, IGNORED, IGNORED], [10, 11, 12, 1]]
    assert batch["decoder_input_ids"].tolist() == [[0, 9, 1, 0], [0, 10, 11, 12]]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_an_accelerator_gets_sources_of_aligned_width(make_model: MakeModel) -> None:
    """Its attention would copy masks of any other."""
    rows = TokenRows.of([[5, 6, 7], [8]], [[9, 1], [1]])
    batch = Collate.of(make_model(), device=torch.device("cuda"))(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0, 0, 0, 0, 0], [8, 0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("multiple", [1, 8])
def test_widths_are_few_and_hold_their_lengths(multiple: int) -> None:
    """Without a multiple every length is a width of its own; with one less than a quarter is padded beyond the first few."""
    widths = [rounded(length, multiple) for length in range(1, 513)]
    assert all(width >= length for length, width in enumerate(widths, start=1))
    assert widths == sorted(widths)
    if multiple == 1:
        assert widths == list(range(1, 513))
    else:
        assert all(width % multiple == 0 for width in widths)
        assert all(width < 1.25 * length for length, width in enumerate(widths, start=1) if length > 4 * multiple)
        assert len(set(widths)) == 20


def test_both_sides_are_padded_to_widths_that_come_often() -> None:
    """What a teacher said beforehand goes along."""
    rows = TokenRows.of([[5] * 9, [6] * 3], [[7] * 11, [8, 9]])
    tops = Distributions(np.ones((13, 4), dtype=np.uint16), np.full((13, 4), -2.0, dtype=np.float16))
    rows = replace(rows, distributions=tops)
    batch = Collate(pad_id=0, shift=lambda labels: labels, multiple=8)(rows)
    assert batch["input_ids"].shape == batch["labels"].shape == (2, 16)
    assert batch["top_ids"].shape == batch["top_logprobs"].shape == (2, 16, 4)
    assert (batch["labels"] != IGNORED).sum().item() == 13
    assert batch["top_ids"].sum().item() == 13 * 4


def test_parts_of_a_batch_are_all_of_its_rows() -> None:
    """As many tokens of the longer side as are allowed, and one row where it alone has more."""
    batch = {"input_ids": torch.arange(30).view(5, 6), "labels": torch.arange(20).view(5, 4)}
    for tokens, sizes in ((30, [5]), (13, [2, 2, 1]), (3, [1, 1, 1, 1, 1])):
        parts = parts_of(batch, tokens)
        assert [len(part["labels"]) for part in parts] == sizes
        for name, tensor in batch.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), tensor)


def test_the_start_token_is_the_configured_one_whatever_a_row_ends_with() -> None:
    """mBART's own shift would begin with a row's end token; an id may also stand in the generation configuration alone."""
    config = MBartConfig(
        vocab_size=24,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=1,
        decoder_attention_heads=1,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=5,
    )
    model = MBartForConditionalGeneration(config)
    rows = TokenRows.of([[5, 6]], [[9, 1]])
    assert Collate.of(model)(rows)["decoder_input_ids"].tolist() == [[5, 9]]
    model.config.decoder_start_token_id = model.config.pad_token_id = None
    assert Collate.of(model)(rows)["decoder_input_ids"].tolist() == [[5, 9]]

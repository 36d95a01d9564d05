"""Weights in eight and in four bits, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pocketseq.errors import CheckpointError
from pocketseq_export.quantization import by_block, by_channel


def test_each_output_channel_has_a_scale_of_its_own() -> None:
    """The largest magnitude of a row becomes 127; the matrix comes out transposed, as a product from the right needs it."""
    found = by_channel(np.array([[1.0, -0.5], [0.0, 254.0]], dtype=np.float32))
    np.testing.assert_allclose(found.scales, [1 / 127, 2.0])
    np.testing.assert_array_equal(found.values, [[127, 0], [-64, 127]])


def test_each_block_of_a_row_has_a_scale_of_its_own() -> None:
    """A large number in one block costs the others nothing."""
    row = np.zeros((1, 48), dtype=np.float32)
    row[0, 0], row[0, 16], row[0, 17] = 1270, -12.7, 6.3
    found = by_block(row)
    assert found.block == 16
    np.testing.assert_allclose(found.scales, [[10, 0.1, 1]], rtol=1e-6)
    assert found.values[0, [0, 1, 16, 17, 47]].tolist() == [255, 128, 1, 191, 128]


def test_weights_of_zero_stay_zero() -> None:
    """A channel without weights has a scale all the same."""
    channel, block = by_channel(np.zeros((3, 16), dtype=np.float32)), by_block(np.zeros((3, 16), dtype=np.float32))
    assert not channel.values.any()
    assert (channel.scales == 1).all()
    assert (block.values == 128).all()


def test_the_error_is_at_most_half_a_step() -> None:
    """What rounding to the nearest of 255 steps gives."""
    weight = np.random.default_rng(0).standard_normal((7, 64)).astype(np.float32)
    channel, block = by_channel(weight), by_block(weight)
    assert (np.abs(channel.values.T * channel.scales[:, None] - weight) <= channel.scales[:, None] * 0.501).all()
    restored = (block.values.astype(np.float32) - 128) * np.repeat(block.scales, block.block, axis=1)
    assert (np.abs(restored - weight) <= np.repeat(block.scales, block.block, axis=1) * 0.501).all()


def test_two_numbers_of_four_bits_share_a_byte() -> None:
    """The first in the low half, zero at 8."""
    row = np.zeros((1, 16), dtype=np.float32)
    row[0, :4] = 7, -7, 3, 0
    found = by_block(row, bits=4)
    assert (found.block, found.scales.tolist()) == (16, [[1.0]])
    assert found.values.tolist() == [[15 | 1 << 4, 11 | 8 << 4] + [8 | 8 << 4] * 6]


def test_in_four_bits_the_scale_with_the_least_error_is_taken() -> None:
    """One large number is clipped where that serves the others better."""
    row = np.full((1, 32), 0.63, dtype=np.float32)
    row[0, 0] = 1.05
    scale = float(by_block(row, bits=4).scales[0, 0])
    assert scale < 1.05 / 7
    errors = [((np.clip(np.rint(row / each), -8, 7) * each - row) ** 2).sum() for each in (scale, 1.05 / 7)]
    assert errors[0] < errors[1]


def test_a_width_that_no_block_divides_is_refused() -> None:
    """With what to do instead."""
    with pytest.raises(CheckpointError, match="multiple of 16, found 20; export fp32"):
        by_block(np.zeros((2, 20), dtype=np.float32))

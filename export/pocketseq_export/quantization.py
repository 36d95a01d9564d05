"""Weights in eight bits: symmetric, by output channel or by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pocketseq.errors import CheckpointError

BLOCKS: Final = (128, 64, 32, 16)
"""Block widths that runtimes take, widest first: a wide block costs fewer bytes for scales and is no less accurate in practice."""
ZERO: Final = 128
"""What stands for zero where values are unsigned."""


@dataclass(frozen=True, slots=True)
class ChannelInt8:
    """A matrix with one scale an output channel."""

    values: npt.NDArray[np.int8]
    """int8 [inputs, outputs]."""
    scales: npt.NDArray[np.float32]
    """float32 [outputs]."""


@dataclass(frozen=True, slots=True)
class BlockInt8:
    """A matrix with one scale for every block of a row."""

    values: npt.NDArray[np.uint8]
    """uint8 [rows, width], zero at 128."""
    scales: npt.NDArray[np.float32]
    """float32 [rows, width / block]."""
    block: int
    """Columns that share a scale."""


def by_channel(weight: npt.NDArray[np.float32]) -> ChannelInt8:
    """Quantize a projection.

    Args:
        weight: float32 [outputs, inputs].
    """
    scales = _scales(np.abs(weight).max(axis=1))
    values = np.rint(weight / scales[:, None]).astype(np.int8)
    return ChannelInt8(np.ascontiguousarray(values.T), scales)


def by_block(weight: npt.NDArray[np.float32]) -> BlockInt8:
    """Quantize a table, or a projection with its outputs as rows.

    Args:
        weight: float32 [rows, width].

    Raises:
        CheckpointError: a width that no block size divides.
    """
    rows, width = weight.shape
    block = next((size for size in BLOCKS if width % size == 0), None)
    if block is None:
        raise CheckpointError(f"int8 needs weights whose width is a multiple of {BLOCKS[-1]}, found {width}; export fp32 instead")
    blocks = weight.reshape(rows, width // block, block)
    scales = _scales(np.abs(blocks).max(axis=2))
    values = (np.rint(blocks / scales[..., None]) + ZERO).astype(np.uint8)
    return BlockInt8(values.reshape(rows, width), scales, block)


def _scales(largest: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale that puts the largest magnitude at 127; 1 where all are zero."""
    return np.where(largest > 0, largest / 127, 1).astype(np.float32)

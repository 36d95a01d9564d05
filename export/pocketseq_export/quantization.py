"""Weights in eight or four bits: symmetric, by output channel or by block; and in sixteen, where they fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pocketseq.errors import CheckpointError

Bits: TypeAlias = Literal[4, 8]
BLOCKS: Final[Mapping[Bits, tuple[int, ...]]] = {4: (32, 16), 8: (256, 128, 64, 32, 16)}
"""Block widths that runtimes take, the one to prefer first. In eight bits a wide block costs fewer bytes for scales and is no
less accurate in practice; in four bits it is."""
SHRINKS: Final = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Factors by which a scale in four bits may be made smaller: clipping the largest numbers of a block can serve the others."""


@dataclass(frozen=True, slots=True)
class ChannelInt8:
    """A matrix with one scale an output channel."""

    values: npt.NDArray[np.int8]
    """int8 [inputs, outputs]."""
    scales: npt.NDArray[np.float32]
    """float32 [outputs]."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix with one scale for every block of a row."""

    values: npt.NDArray[np.uint8]
    """uint8 [rows, width], zero at 128; in four bits [rows, width / 2], zero at 8, the first of two numbers in the low half."""
    scales: npt.NDArray[np.float32]
    """float32 [rows, width / block]."""
    block: int
    """Columns that share a scale."""


def by_channel(weight: npt.NDArray[np.float32]) -> ChannelInt8:
    """Quantize a projection.

    Args:
        weight: float32 [outputs, inputs].
    """
    scales = _scales(np.abs(weight).max(axis=1), 127)
    values = np.rint(weight / scales[:, None]).astype(np.int8)
    return ChannelInt8(np.ascontiguousarray(values.T), scales)


def by_block(weight: npt.NDArray[np.float32], *, bits: Bits = 8) -> Blocks:
    """Quantize a table, or a projection with its outputs as rows.

    Args:
        weight: float32 [rows, width].
        bits: Width of a number.

    Raises:
        CheckpointError: a width that no block size divides.
    """
    rows, width = weight.shape
    block = next((size for size in BLOCKS[bits] if width % size == 0), None)
    if block is None:
        raise CheckpointError(
            f"int{bits} needs weights whose width is a multiple of {BLOCKS[bits][-1]}, found {width}; export fp32 instead"
        )
    blocks = weight.reshape(rows, width // block, block)
    limit = 2 ** (bits - 1) - 1
    scales = _scales(np.abs(blocks).max(axis=2), limit)
    if bits == 4:
        scales = _best(blocks, scales, limit)
    values = (_round(blocks, scales, limit) + limit + 1).astype(np.uint8).reshape(rows, width)
    if bits == 4:
        values = values[:, ::2] | values[:, 1::2] << 4
    return Blocks(values, scales, block)


def halves(name: str, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """A weight in float16; see ``check_halves``."""
    check_halves(name, weight)
    return weight.astype(np.float16)


def check_halves(name: str, weight: npt.NDArray[np.float32]) -> None:
    """Check that float16 holds a weight.

    Raises:
        CheckpointError: a number beyond its range.
    """
    largest = float(np.abs(weight).max(initial=0.0))
    if largest > float(np.finfo(np.float16).max):
        raise CheckpointError(f"fp16 holds numbers up to 65504, found {largest:.3g} in {name!r}; export fp32 or int8 instead")


def _round(blocks: npt.NDArray[np.float32], scales: npt.NDArray[np.float32], limit: int) -> npt.NDArray[np.float32]:
    rounded: npt.NDArray[np.float32] = np.clip(np.rint(blocks / scales[..., None]), -limit - 1, limit)
    return rounded


def _best(blocks: npt.NDArray[np.float32], scales: npt.NDArray[np.float32], limit: int) -> npt.NDArray[np.float32]:
    """Of a few smaller scales the one with the least squared error, for each block."""
    tries = [scales * np.float32(shrink) for shrink in SHRINKS]
    errors = [((_round(blocks, each, limit) * each[..., None] - blocks) ** 2).sum(axis=2) for each in tries]
    best: npt.NDArray[np.float32] = np.take_along_axis(np.stack(tries), np.argmin(errors, axis=0)[None], axis=0)[0]
    return best


def _scales(largest: npt.NDArray[np.float32], limit: int) -> npt.NDArray[np.float32]:
    """Scale that puts the largest magnitude at the limit; 1 where all are zero."""
    return np.where(largest > 0, largest / limit, 1).astype(np.float32)

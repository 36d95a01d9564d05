"""How projections and tables are written in each precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from pocketseq_export.onnx.builder import GraphBuilder
from pocketseq_export.quantization import by_block, by_channel

Floats = npt.NDArray[np.float32]


class Operators(Protocol):
    """Writes the two things that hold nearly all weights."""

    def linear(self, graph: GraphBuilder, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """Project [batch, sequence, inputs] → [batch, sequence, outputs] by weight [outputs, inputs]."""
        ...

    def lookup(self, graph: GraphBuilder, ids: str, name: str, table: Floats) -> str:
        """Take rows of a table [rows, width]."""
        ...


class Float32:
    """Weights as they are."""

    def linear(self, graph: GraphBuilder, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """See ``Operators``."""
        y = graph.op("FusedMatMul", x, graph.weight(f"{name}.weight", weight), transB=1)
        return y if bias is None else graph.op("Add", y, graph.weight(f"{name}.bias", bias))

    def lookup(self, graph: GraphBuilder, ids: str, name: str, table: Floats) -> str:
        """See ``Operators``."""
        return graph.op("Gather", graph.weight(f"{name}.weight", table), ids)


class BlockwiseInt8:
    """Weights in blocks with scales of their own; activations are quantized row by row, so that a token's numbers do not depend
    on the tokens beside it.
    """

    def linear(self, graph: GraphBuilder, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """See ``Operators``."""
        quantized = by_block(weight)
        outputs, inputs = weight.shape
        return graph.op(
            "MatMulNBits",
            x,
            graph.weight(f"{name}.int8", quantized.values.reshape(outputs, -1, quantized.block)),
            graph.weight(f"{name}.scales", quantized.scales),
            None,
            None,
            None if bias is None else graph.weight(f"{name}.bias", bias),
            K=inputs,
            N=outputs,
            bits=8,
            block_size=quantized.block,
            accuracy_level=4,  # multiply in int8
        )

    def lookup(self, graph: GraphBuilder, ids: str, name: str, table: Floats) -> str:
        """See ``Operators``. Its bytes are those of ``linear``, so that a tied table is stored once."""
        quantized = by_block(table)
        values, scales = graph.weight(f"{name}.table", quantized.values), graph.weight(f"{name}.table_scales", quantized.scales)
        block = quantized.block
        return graph.op("GatherBlockQuantized", values, ids, scales, bits=8, block_size=block, gather_axis=0, quantize_axis=1)


class ChannelwiseInt8(BlockwiseInt8):
    """Projections with one scale an output channel and activations with one scale for all: three times as fast over many tokens."""

    def linear(self, graph: GraphBuilder, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """See ``Operators``."""
        quantized = by_channel(weight)
        return graph.op(
            "DynamicQuantizeMatMul",
            x,
            graph.weight(f"{name}.int8", quantized.values),
            graph.weight(f"{name}.scales", quantized.scales),
            graph.weight(f"{name}.zeros", np.zeros(len(weight), dtype=np.int8)),
            None if bias is None else graph.weight(f"{name}.bias", bias),
        )


@dataclass(frozen=True, slots=True)
class Precision:
    """How a variant is written."""

    encode: Operators
    """For the encoder, which sees a whole source at once."""
    step: Operators
    """For the decoder, which sees a token or a few."""


PRECISIONS: Final[Mapping[str, Precision]] = {
    "fp32": Precision(Float32(), Float32()),
    "int8": Precision(ChannelwiseInt8(), BlockwiseInt8()),
}
"""Precisions of the ONNX programs, by name."""

"""How projections and tables are written in each precision."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from pocketseq_export.onnx.builder import GraphBuilder
from pocketseq_export.quantization import Bits, by_block, by_channel, halves

Floats = npt.NDArray[np.float32]

TIED_TABLES: Final = frozenset({"tokens", "decoder.embedding.tokens"})
"""Names of the decoder's token table, shared with the encoder or not."""


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
        y = graph.op("FusedMatMul", x, graph.weight(f"{name}.weight", weight), transB=1, name=f"{name}.product")
        return y if bias is None else graph.op("Add", y, graph.weight(f"{name}.bias", bias))

    def lookup(self, graph: GraphBuilder, ids: str, name: str, table: Floats) -> str:
        """See ``Operators``."""
        return graph.op("Gather", graph.weight(f"{name}.weight", table), ids)


class Float16(Float32):
    """Weights stored in half the bytes; ONNX Runtime turns them into float32 when it opens the graph, and computes as ever."""

    def linear(self, graph: GraphBuilder, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """See ``Operators``."""
        stored = graph.weight(f"{name}.weight", halves(name, weight))
        y = graph.op("FusedMatMul", x, graph.op("Cast", stored, to=TensorProto.FLOAT), transB=1)
        return y if bias is None else graph.op("Add", y, graph.weight(f"{name}.bias", bias))

    def lookup(self, graph: GraphBuilder, ids: str, name: str, table: Floats) -> str:
        """See ``Operators``."""
        return graph.op("Cast", graph.op("Gather", graph.weight(f"{name}.weight", halves(name, table)), ids), to=TensorProto.FLOAT)


@dataclass(frozen=True, slots=True)
class Blockwise:
    """Weights in blocks with scales of their own; activations are rounded to int8 row by row, so that a token's numbers do not
    depend on the tokens beside it.
    """

    bits: Bits
    """Bits of a weight."""

    def linear(self, graph: GraphBuilder, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """See ``Operators``."""
        quantized = by_block(weight, bits=self.bits)
        outputs, inputs = weight.shape
        return graph.op(
            "MatMulNBits",
            x,
            graph.weight(f"{name}.int{self.bits}", quantized.values.reshape(outputs, inputs // quantized.block, -1)),
            graph.weight(f"{name}.scales", quantized.scales),
            None,
            None,
            None if bias is None else graph.weight(f"{name}.bias", bias),
            K=inputs,
            N=outputs,
            bits=self.bits,
            block_size=quantized.block,
            accuracy_level=4,  # multiply in int8
            name=f"{name}.product",
        )

    def lookup(self, graph: GraphBuilder, ids: str, name: str, table: Floats) -> str:
        """See ``Operators``. Its bytes are those of ``linear``, so that a tied table is stored once."""
        quantized = by_block(table, bits=self.bits)
        values, scales = graph.weight(f"{name}.table", quantized.values), graph.weight(f"{name}.table_scales", quantized.scales)
        return graph.op(
            "GatherBlockQuantized",
            *(values, ids, scales),
            bits=self.bits,
            block_size=quantized.block,
            gather_axis=0,
            quantize_axis=1,
        )


class ChannelwiseInt8(Blockwise):
    """Projections with one scale an output channel and activations with one scale for all: three times as fast over many tokens."""

    __slots__ = ()

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
            name=f"{name}.product",
        )


class WeightsOnly(Blockwise):
    """Weights stored like that, and turned into float32 when ONNX Runtime opens the graph: nothing else is rounded."""

    __slots__ = ()

    def linear(self, graph: GraphBuilder, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """See ``Operators``. A product that unpacks its weights at every call would be forty times as slow."""
        assert self.bits == 8
        quantized = by_block(weight)
        shape = len(weight), -1, quantized.block
        stored = graph.op("Cast", graph.weight(f"{name}.int8", quantized.values.reshape(shape)), to=TensorProto.FLOAT)
        scales = graph.weight(f"{name}.scales", quantized.scales[..., None])
        scaled = graph.op("Mul", graph.op("Sub", stored, graph.scalar(128.0)), scales)
        y = graph.op("FusedMatMul", x, graph.op("Reshape", scaled, graph.constant(*weight.shape)), transB=1)
        return y if bias is None else graph.op("Add", y, graph.weight(f"{name}.bias", bias))


@dataclass(frozen=True, slots=True)
class Mixed:
    """Some layers in a higher precision than the others."""

    usual: Operators
    """For the others."""
    higher: Operators
    """For these."""
    names: Collection[str]
    """Names of layers and tables."""

    def linear(self, graph: GraphBuilder, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """See ``Operators``."""
        return self._operators(name).linear(graph, x, name, weight, bias)

    def lookup(self, graph: GraphBuilder, ids: str, name: str, table: Floats) -> str:
        """See ``Operators``."""
        return self._operators(name).lookup(graph, ids, name, table)

    def _operators(self, name: str) -> Operators:
        return self.higher if name in self.names else self.usual


@dataclass(frozen=True, slots=True)
class Precision:
    """How a variant is written."""

    encode: Operators
    """For the encoder, which sees a whole source at once."""
    step: Operators
    """For the decoder, which sees a token or a few."""
    kept: Operators
    """For layers that break otherwise."""

    def keeping(self, layers: Collection[str], *, tied_output: bool) -> Precision:
        """The same with these layers written in the higher precision; a token table that is one of them, too."""
        if not layers:
            return self
        tables = TIED_TABLES if tied_output and "output" in layers else frozenset()
        names = tables.union(layers)
        return replace(self, encode=Mixed(self.encode, self.kept, names), step=Mixed(self.step, self.kept, names))


PRECISIONS: Final[Mapping[str, Precision]] = {
    "fp32": Precision(Float32(), Float32(), kept=Float32()),
    "fp16": Precision(Float16(), Float16(), kept=Float32()),
    "int8": Precision(ChannelwiseInt8(8), Blockwise(8), kept=Float16()),
    "int8w": Precision(WeightsOnly(8), WeightsOnly(8), kept=Float16()),
    "int4": Precision(Blockwise(4), Blockwise(4), kept=WeightsOnly(8)),
}
"""Precisions of the ONNX programs, by name."""

"""The program as a flatbuffer: read, changed, and written with nothing in it twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

IDENTIFIER: Final = b"TFL3"
ALIGNMENT: Final = 16
"""Bytes by which a runtime that maps the file may rely on weights to be aligned."""


def read_program(content: bytes | bytearray) -> Any:
    """A program as a tree of the schema's objects, each buffer with its bytes."""
    from ai_edge_litert.schema_py_generated import ModelT

    model: Any = ModelT.InitFromPackedBuf(bytearray(content), 0)
    for buffer in model.buffers:
        if buffer.data is None and buffer.offset > 1:  # large programs keep their buffers behind the tree
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    return model


def write_program(model: Any) -> bytes:
    """Serialize a program.

    Tensors that stand for the same weights in several signatures share one entry of scales, which by themselves would be a tenth
    of a small program in eight bits; equal vectors are stored once.
    """
    import flatbuffers

    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data):
            buffer.data, bytes_of = None, np.asarray(buffer.data, dtype=np.uint8)
            buffer.Pack = _Aligned(bytes_of)
    shared: dict[bytes, _Scales] = {}
    vectors: dict[bytes, int] = {}
    for tensor in tensors(model):
        scales = tensor.quantization
        if scales is not None and scales.scale is not None and scales.details is None:
            entry = _Scales(scales, vectors)
            tensor.quantization = shared.setdefault(entry.key, entry)
    size = 2 * sum(len(buffer.Pack.content) for buffer in model.buffers if isinstance(buffer.__dict__.get("Pack"), _Aligned))
    builder = flatbuffers.Builder(size + (1 << 16))
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def tensors(model: Any) -> Iterator[Any]:
    """All tensors of all signatures."""
    for graph in model.subgraphs:
        yield from graph.tensors


def add_constant(model: Any, name: str, values: npt.NDArray[Any]) -> None:
    """Give the first signature a tensor that nothing computes with, for a runtime to read."""
    from ai_edge_litert.schema_py_generated import BufferT, TensorT, TensorType

    buffer, tensor = BufferT(), TensorT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.name, tensor.shape, tensor.buffer = name.encode(), np.array(values.shape, np.int32), len(model.buffers) - 1
    tensor.type = {np.dtype(np.float32): TensorType.FLOAT32, np.dtype(np.int32): TensorType.INT32}[values.dtype]
    model.subgraphs[0].tensors.append(tensor)


@dataclass(frozen=True, slots=True)
class _Aligned:
    """Packs a buffer as the schema demands, which the schema's own Python code does not."""

    content: npt.NDArray[np.uint8]

    def __call__(self, builder: Any) -> int:
        from ai_edge_litert import schema_py_generated as schema

        size = len(self.content)
        builder.StartVector(1, size, ALIGNMENT)
        builder.head = builder.Head() - size
        builder.Bytes[builder.Head() : builder.Head() + size] = self.content.tobytes()
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        offset: int = schema.BufferEnd(builder)
        return offset


class _Scales:
    """Packs a tensor's scales once, however many tensors have them."""

    def __init__(self, scales: Any, vectors: dict[bytes, int]) -> None:
        self._scale = np.asarray(scales.scale, np.float32)
        self._zero = np.asarray(scales.zeroPoint, np.int64)
        self._axis = scales.quantizedDimension
        self._vectors = vectors
        self._offset: int | None = None

    @property
    def key(self) -> bytes:
        """Equal for equal scales."""
        return self._scale.tobytes() + self._zero.tobytes() + bytes([self._axis])

    def Pack(self, builder: Any) -> int:  # noqa: N802 the schema's name
        """Write the scales, or say where they are."""
        from ai_edge_litert import schema_py_generated as schema

        if self._offset is None:
            scale, zero = self._vector(builder, self._scale), self._vector(builder, self._zero)
            schema.QuantizationParametersStart(builder)
            schema.QuantizationParametersAddScale(builder, scale)
            schema.QuantizationParametersAddZeroPoint(builder, zero)
            schema.QuantizationParametersAddQuantizedDimension(builder, self._axis)
            self._offset = schema.QuantizationParametersEnd(builder)
        return self._offset

    def _vector(self, builder: Any, values: npt.NDArray[Any]) -> int:
        content = values.dtype.str.encode() + values.tobytes()
        if content not in self._vectors:
            self._vectors[content] = builder.CreateNumpyVector(values)
        return self._vectors[content]

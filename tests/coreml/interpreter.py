"""Runs the program that a saved package holds: the protobuf and the weight file, nothing of what wrote them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from coremltools.proto import MIL_pb2, Model_pb2
from tests.coreml.operators import OPERATORS

NUMPY = {"FLOAT16": np.float16, "FLOAT32": np.float32, "INT32": np.int32, "INT8": np.int8, "UINT8": np.uint8, "BOOL": np.bool_}
SENTINEL = 0xDEADBEEF


def type_name(kind: Any) -> str:
    return str(MIL_pb2.DataType.Name(kind.tensorType.dataType))


def read_blob(file: Path, offset: int, count: int, dtype: Any) -> Any:
    """Read one record: a header of 64 bytes, whose third field says where the values stand."""
    with file.open("rb") as stream:
        stream.seek(offset)
        sentinel, _, size, place = struct.unpack("<IIQQ", stream.read(24))
        assert sentinel == SENTINEL, f"no record at byte {offset} of {file}"
        assert size == count * np.dtype(dtype).itemsize
        stream.seek(place)
        return np.frombuffer(stream.read(size), dtype=dtype)


class SavedFunction:
    """One function of a saved model.

    ``half`` rounds what every operator says to float16 where the program holds float16, as hardware does at least; without it
    such values stay float32, which shows whether the program is right apart from rounding.
    """

    def __init__(self, model: Path, function: str = "main", *, half: bool = False) -> None:
        spec = Model_pb2.Model()
        spec.ParseFromString(model.read_bytes())
        self.description = next((item for item in spec.description.functions if item.name == function), spec.description)
        self._folder = model.parent
        self._half = half
        program = spec.mlProgram.functions[function]
        (block,) = program.block_specializations.values()
        self._outputs = list(block.outputs)
        self._types = {item.name: item.type for item in program.inputs}
        self._constants: dict[str, Any] = {}
        self._operations = []
        for operation in block.operations:
            if operation.type == "const":
                self._constants[operation.outputs[0].name] = self._value(operation.attributes["val"])
            elif operation.type.startswith("constexpr_"):
                given = {name: self._value(value) for name, value in operation.attributes.items() if name != "name"}
                self._keep(self._constants, operation, OPERATORS[operation.type](given | self._given(operation, self._constants)))
            else:
                self._operations.append(operation)

    @property
    def operators(self) -> set[str]:
        """Types of the operators that run."""
        return {operation.type for operation in self._operations}

    def new_state(self) -> dict[str, Any]:
        """States as Core ML makes them: zero."""
        return {item.name: np.zeros(item.type.stateType.arrayType.shape, dtype=np.float32) for item in self.description.state}

    def run(self, inputs: dict[str, Any], state: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the function; a state is changed in place."""
        values = dict(self._constants)
        for item in self.description.input:
            given = np.asarray(inputs[item.name])
            self._check_shape(item, given.shape)
            integral = item.type.multiArrayType.dataType == item.type.multiArrayType.INT32
            values[item.name] = (
                given.astype(np.int32) if integral else self._rounded(given.astype(np.float32), self._types[item.name])
            )
        assert set(inputs) == {item.name for item in self.description.input}
        for operation in self._operations:
            given = self._given(operation, values | {name: name for name in state or {}})
            if operation.type == "read_state":
                assert state is not None
                self._keep(values, operation, state[given["input"]])
            elif operation.type == "write_state":
                assert state is not None
                state[given["input"]] = given["data"].astype(np.float16).astype(np.float32)
            else:
                self._keep(values, operation, OPERATORS[operation.type](given))
        return {name: np.asarray(values[name]) for name in self._outputs}

    def _check_shape(self, item: Any, shape: tuple[int, ...]) -> None:
        described = item.type.multiArrayType
        shapes = [tuple(choice.shape) for choice in described.enumeratedShapes.shapes] or [tuple(described.shape)]
        assert shape in shapes, f"{item.name}: Core ML takes one of {shapes}, found {shape}"

    def _given(self, operation: Any, values: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, argument in operation.inputs.items():
            found = [values[binding.name] if binding.name else self._value(binding.value) for binding in argument.arguments]
            given[name] = found if name == "values" else found[0]
        return given

    def _keep(self, values: dict[str, Any], operation: Any, result: Any) -> None:
        for output, value in zip(operation.outputs, result if isinstance(result, list) else [result], strict=True):
            kind = output.type.tensorType
            for found, dimension in zip(np.shape(value), kind.dimensions, strict=True):
                assert not dimension.HasField("constant") or dimension.constant.size == found, (
                    f"{output.name}: other shape than declared"
                )
            values[output.name] = self._rounded(value, output.type)

    def _rounded(self, value: Any, kind: Any) -> Any:
        name = type_name(kind)
        if name == "FLOAT16" and self._half:
            with np.errstate(over="ignore"):
                return np.asarray(value).astype(np.float16).astype(np.float32)
        return np.asarray(value).astype(np.float32 if name == "FLOAT16" else NUMPY[name])

    def _value(self, value: Any) -> Any:
        kind = type_name(value.type)
        shape = [dimension.constant.size for dimension in value.type.tensorType.dimensions]
        if value.HasField("blobFileValue"):
            prefix, _, path = value.blobFileValue.fileName.partition("/")
            assert prefix == "@model_path"
            array = read_blob(self._folder / path, value.blobFileValue.offset, int(np.prod(shape)), NUMPY[kind]).reshape(shape)
            return array.astype(np.float32) if kind == "FLOAT16" else array
        tensor = value.immediateValue.tensor
        held = getattr(tensor, tensor.WhichOneof("value")).values
        if kind == "STRING":
            return held[0]
        if isinstance(held, bytes):
            held = np.frombuffer(held, dtype=NUMPY[kind])
        array = np.array(held, dtype=np.float32 if kind == "FLOAT16" else NUMPY[kind]).reshape(shape)
        return array if shape else array[()]

"""Building blocks of ONNX files: a graph under construction, and the weights that several graphs share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = Sequence[str | int]

OPSET: Final = 21
IR_VERSION: Final = 10
ALIGNMENT: Final = 64
"""Bytes; a cache line, and enough for every vector instruction."""
MICROSOFT: Final = frozenset(
    {
        "DynamicQuantizeMatMul",
        "FusedMatMul",
        "GatherBlockQuantized",
        "MatMulNBits",
        "MultiHeadAttention",
        "QuickGelu",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
"""Operators of ONNX Runtime's own domain."""


class WeightFile:
    """The file that holds the weights of all graphs of a variant; equal content is stored once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._offsets: dict[bytes, int] = {}
        self._chunks: list[bytes] = []
        self._size = 0

    def place(self, content: bytes) -> int:
        """Byte offset at which the content stands, put there if it is new."""
        key = hashlib.sha256(content).digest()
        if key not in self._offsets:
            padding = -self._size % ALIGNMENT
            self._chunks += [bytes(padding), content]
            self._offsets[key] = self._size + padding
            self._size += padding + len(content)
        return self._offsets[key]

    def write(self, directory: Path) -> None:
        """Write the file."""
        with (directory / self.name).open("wb") as file:
            file.writelines(self._chunks)


class GraphBuilder:
    """An ONNX graph under construction; values are known by their names."""

    def __init__(self, name: str, weights: WeightFile, *, outer: GraphBuilder | None = None) -> None:
        """Start a graph.

        Args:
            name: Of the graph.
            weights: Where its weights go.
            outer: The graph that this one is the body of a loop in; it holds the weights and constants of both.
        """
        self._name = name
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: dict[str, TensorProto] = {} if outer is None else outer._initializers
        # Names of a body must not hide those of the graph around it.
        self._prefix = "" if outer is None else f"{name}."

    def input(self, name: str, kind: type[np.generic], shape: Shape) -> str:
        """Declare an input; strings in the shape are dynamic axes."""
        self._inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape))
        return name

    def output(self, name: str, shape: Shape, kind: type[np.generic] = np.float32) -> None:
        """Declare an output, which a node has written under that name."""
        self._outputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape))

    def body(self, name: str) -> GraphBuilder:
        """The body of a loop in this graph; every value of this graph can be read in it."""
        return GraphBuilder(name, self._weights, outer=self)

    def loop(self, body: GraphBuilder, *carried: str, limit: str, names: Sequence[str]) -> Sequence[str]:
        """Add a loop: the body runs until its first output is false, at most ``limit`` times.

        Args:
            body: Takes the number of the round, a condition and what is carried; gives a condition, what is carried, and what
                is gathered round by round.
            carried: Values at the first round.
            limit: A number, int64.
            names: Names of the outputs: what was carried, then what was gathered with the round as first axis.
        """
        graph = helper.make_graph(body._nodes, body._name, body._inputs, body._outputs)
        return self.ops("Loop", limit, None, *carried, names=names, body=graph)

    def op(self, kind: str, *inputs: str | None, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one output.

        Args:
            kind: Operator.
            inputs: Names of values; None leaves an optional one out.
            name: Name of the output; made up if not given.
            attributes: Of the operator; those that are None are left out.

        Returns:
            The output's name.
        """
        return self.ops(kind, *inputs, names=[name or self._fresh(kind)], **attributes)[0]

    def ops(self, kind: str, *inputs: str | None, names: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node with several outputs; an empty name leaves an optional one out."""
        domain = "com.microsoft" if kind in MICROSOFT else ""
        given = {key: value for key, value in attributes.items() if value is not None}
        values = [value or "" for value in inputs]
        while not values[-1]:
            values.pop()
        self._nodes.append(helper.make_node(kind, values, list(names), name=names[0], domain=domain, **given))
        return names

    def split(self, value: str, count: int, *, axis: int, names: Sequence[str] | None = None) -> Sequence[str]:
        """Cut a value into equal parts."""
        return self.ops(
            "Split", value, names=names or [self._fresh(f"Split_{part}") for part in range(count)], axis=axis, num_outputs=count
        )

    def weight(self, name: str, array: Array) -> str:
        """A tensor of the weight file."""
        if name not in self._initializers:
            content = np.ascontiguousarray(array).tobytes()
            tensor = TensorProto(name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": self._weights.name, "offset": self._weights.place(content), "length": len(content)}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self._initializers[name] = tensor
        return name

    def constant(self, *values: int) -> str:
        """A small int64 vector, kept in the graph itself."""
        name = "constant_" + "_".join(map(str, values))
        self._initializers.setdefault(name, numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    def vector(self, *values: float) -> str:
        """A small float32 vector, kept in the graph itself."""
        name = "vector_" + "_".join(map(str, values))
        self._initializers.setdefault(name, numpy_helper.from_array(np.array(values, dtype=np.float32), name))
        return name

    def length(self, value: str, axis: int) -> str:
        """How long a value is along an axis, as an int64 number."""
        return self.op("Squeeze", self.op("Shape", value, start=axis, end=axis + 1), self.constant(0))

    def scalar(self, value: float, kind: type[np.generic] = np.float32) -> str:
        """A number, kept in the graph itself."""
        name = f"scalar_{np.dtype(kind).name}_{value}"
        self._initializers.setdefault(name, numpy_helper.from_array(np.array(value, dtype=kind), name))
        return name

    def write(self, path: Path) -> None:
        """Write the graph; its weights stay in their own file."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="pocketseq")
        path.write_bytes(model.SerializeToString(deterministic=True))

    def _fresh(self, kind: str) -> str:
        return f"{self._prefix}{kind}_{len(self._nodes)}"

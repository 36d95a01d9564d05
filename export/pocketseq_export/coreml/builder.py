"""A Core ML program under construction: functions, and the weights that they share."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import coremltools as ct
import numpy as np
import numpy.typing as npt
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813 everybody's name for it
from coremltools.converters.mil.mil import Function, Program, get_new_symbol, types

from pocketseq.errors import CheckpointError
from pocketseq_export.coreml.precisions import Precision, by_row
from pocketseq_export.graphs import EncoderDecoder

LARGEST: Final = 30_000.0
"""Magnitude to which a bias is cut: float16 ends at 65,504, and a token with such a logit is never said either way."""


class ProgramBuilder:
    """Functions over one store of weights; a parameter that several functions or modules read is stored once."""

    def __init__(self, model: EncoderDecoder, precision: Precision, *, keep: Collection[str] = ()) -> None:
        """Start an empty program.

        Args:
            model: Whose parameters the functions read.
            precision: See ``PRECISIONS``.
            keep: Names of linear layers of the model that are not quantized.
        """
        mb.name_count.clear()  # names count up within a process; the same model shall give the same bytes
        self.precision = precision
        self.program = Program()
        self._names = {id(parameter): name.replace(".", "_") for name, parameter in model.named_parameters()}
        self._kept = {id(model.get_submodule(name).weight) for name in keep}

    @contextmanager
    def function(
        self,
        name: str,
        *,
        ints: Mapping[str, Sequence[int]],
        floats: Mapping[str, Sequence[int]],
        states: Mapping[str, Sequence[int]] | None = None,
        lengths: tuple[str, int, Sequence[int]],
    ) -> Iterator[Function]:
        """Open a function; what is written in the block becomes part of it.

        Args:
            name: Of the function.
            ints: Shape of each int32 input.
            floats: Shape of each input of the precision's type.
            states: Shape of each float16 state.
            lengths: Input, axis and lengths: the one input whose shape is one of several. Before iOS 18 there can be no second.
        """
        varied, axis, choices = lengths
        shapes = {**ints, **floats}
        kinds = {input_name: types.int32 if input_name in ints else self._kind for input_name in shapes}
        inputs: dict[str, Any] = {}
        for input_name, shape in shapes.items():
            symbolic: list[Any] = list(shape)
            if input_name == varied and len(choices) > 1:
                symbolic[axis] = get_new_symbol()
            inputs[input_name] = mb.placeholder(shape=symbolic, dtype=kinds[input_name])
        for state, shape in (states or {}).items():
            inputs[state] = mb.state_tensor_placeholder(shape=list(shape), dtype=types.fp16)
        with Function(inputs, opset_version=self.precision.target) as function:
            yield function
        shape = list(shapes[varied])
        enumerated = [[*shape[:axis], length, *shape[axis + 1 :]] for length in choices]
        if len(choices) > 1:
            numpy_kind = np.int32 if varied in ints else self.precision.floats
            varying = ct.TensorType(
                name=varied, shape=ct.EnumeratedShapes(shapes=enumerated, default=enumerated[0]), dtype=numpy_kind
            )
            function.set_input_types((varying,))
        self.program.add_function(name, function)

    def matrix(self, parameter: torch.Tensor) -> Any:
        """A projection [outputs, inputs] or a table [rows, width], quantized where the precision says so."""
        name, array = self._names[id(parameter)], self._array(parameter)
        if not self.precision.int8 or id(parameter) in self._kept:
            return self._const(name, array.astype(self.precision.floats))
        written = by_row(array, self.precision.floats)
        values = self._const(f"{name}_values", written.values)
        if self.precision.stateful:
            scales = self._const(f"{name}_scales", written.scales[:, None])
            return mb.constexpr_blockwise_shift_scale(data=values, scale=scales, name=name)
        scales = self._const(f"{name}_scales", written.scales)
        return mb.constexpr_affine_dequantize(quantized_data=values, zero_point=np.int8(0), scale=scales, axis=0, name=name)

    def vector(self, parameter: torch.Tensor) -> Any:
        """A weight that is never quantized: a bias, the factors of a norm, the table of distances."""
        limited = np.clip(self._array(parameter), -LARGEST, LARGEST) if self._half else self._array(parameter)
        return self._const(self._names[id(parameter)], limited.astype(self.precision.floats))

    def number(self, value: float) -> Any:
        """A scalar of the precision's type."""
        return self.precision.floats(value)

    def places(self, count: int) -> Any:
        """Positions 0 … count − 1, for a count that is known when the program is written."""
        return mb.const(val=np.arange(count, dtype=np.int32), name="places")

    def floats(self, x: Any) -> Any:
        """Cast to the precision's type."""
        return mb.cast(x=x, dtype="fp16" if self._half else "fp32")

    @property
    def _half(self) -> bool:
        return self.precision.floats is np.float16

    @property
    def _kind(self) -> Any:
        return types.fp16 if self._half else types.fp32

    def _array(self, parameter: torch.Tensor) -> npt.NDArray[np.float32]:
        array: npt.NDArray[np.float32] = parameter.detach().numpy()
        if self._half and array.ndim > 1 and np.abs(array).max() > np.finfo(np.float16).max:
            raise CheckpointError(
                f"expected weights up to {np.finfo(np.float16).max}, as far as float16 reaches, found {np.abs(array).max()} in "
                f"{self._names[id(parameter)]}; export coreml/fp32 instead"
            )
        return array

    def _const(self, name: str, array: npt.NDArray[Any]) -> Any:
        const = mb.const(val=array, name=name)
        # The exporter stores what has one identifier once, whatever its name and function.
        const.op.weight_id = hashlib.sha256(array.tobytes()).hexdigest() + str((array.shape, array.dtype))
        return const

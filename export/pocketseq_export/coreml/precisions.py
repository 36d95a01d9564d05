"""The precisions that Core ML can hold, and which systems run them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import coremltools as ct
import numpy as np
import numpy.typing as npt

Floating: TypeAlias = type[np.float16] | type[np.float32]


@dataclass(frozen=True, slots=True)
class Precision:
    """How a variant computes and where it runs."""

    floats: Floating
    """Type of activations, and of weights that are not quantized."""
    int8: bool
    """Whether matrices are int8 with a scale for each row."""
    stateful: bool
    """Whether the cache is a state that Core ML keeps, in float16 always; otherwise it is an input."""

    @property
    def target(self) -> Any:
        """Oldest system that runs it: states and several functions came with iOS 18 and macOS 15, int8 weights with iOS 16 and
        macOS 13.
        """
        return ct.target.iOS18 if self.stateful else ct.target.iOS16


PRECISIONS: Final[Mapping[str, Precision]] = {
    "fp32": Precision(floats=np.float32, int8=False, stateful=False),
    "fp16": Precision(floats=np.float16, int8=False, stateful=True),
    "int8": Precision(floats=np.float16, int8=True, stateful=True),
    "fp16-stateless": Precision(floats=np.float16, int8=False, stateful=False),
    "int8-stateless": Precision(floats=np.float16, int8=True, stateful=False),
}
"""By name. The SDK reads from the name which macOS a variant needs: see ``pocketseq.runtimes.coreml.needs_macos``."""


@dataclass(frozen=True, slots=True)
class RowInt8:
    """A matrix in eight bits, symmetric, with one scale for each row."""

    values: npt.NDArray[np.int8]
    """int8 [rows, width]."""
    scales: npt.NDArray[Any]
    """float16 or float32 [rows]."""


def by_row(weight: npt.NDArray[np.float32], floats: Floating) -> RowInt8:
    """Quantize a projection or a table; the rounding of the scales themselves is made up for in the values.

    Args:
        weight: float32 [rows, width].
        floats: Type of the scales.
    """
    largest = np.abs(weight).max(axis=1)
    scales = np.where(largest > 0, largest / 127, 1).astype(floats)
    scales = np.maximum(scales, np.finfo(floats).tiny)
    values = np.clip(np.rint(weight / scales[:, None].astype(np.float32)), -127, 127).astype(np.int8)
    return RowInt8(values, scales)

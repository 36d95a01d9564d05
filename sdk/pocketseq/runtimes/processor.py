"""What this processor does with products of 8-bit numbers, found out by multiplying some."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

from pocketseq.runtimes.silent import silent_onnxruntime

_PRODUCT: Final = (
    b'\x08\n:>\n\x18\n\x01a\n\x01b\x12\x01c"\rMatMulInteger\x12\x01p'
    b"Z\t\n\x01a\x12\x04\n\x02\x08\x02Z\t\n\x01b\x12\x04\n\x02\x08\x03b\t\n\x01c\x12\x04\n\x02\x08\x06B\x04\n\x00\x10\n"
)
"""An ONNX model of one node: c int32 = a uint8 × b int8."""


def product_session() -> Any:
    """A session on one thread that multiplies ``a`` uint8 [m, k] and ``b`` int8 [k, n] to ``c`` int32 [m, n]."""
    onnxruntime = silent_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])


@cache
def sums_overflow() -> bool:
    """Whether sums of int8 products overflow here, as they do on x86 without VNNI unless slower kernels are asked for.

    Asking for those kernels where nothing overflows would make an encoder of eight bits half as fast.
    """
    session = product_session()
    a, b = np.full((8, 64), 255, dtype=np.uint8), np.full((64, 16), 127, dtype=np.int8)  # a sum of two already leaves 16 bits
    (found,) = session.run(["c"], {"a": a, "b": b})
    return bool((found != 64 * 255 * 127).any())

"""The precisions that LiteRT can hold, by the quantizer's recipes."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final

SMALLEST: Final = 1024
"""Weights of fewer numbers stay as they are: their scales would take more than they save."""


@dataclass(frozen=True, slots=True)
class Precision:
    """What happens to matrices and token tables; norms, biases and what is computed between them stay float32."""

    bits: int
    """Of a weight."""
    integer: bool
    """Whether products are taken in integers, with activations rounded by what stands in each row; otherwise in float32."""

    def settings(self) -> dict[str, Any]:
        """The quantizer's settings of an operation."""
        weights = {"num_bits": self.bits, "symmetric": True, "block_size": 0, "dtype": "FLOAT" if self.bits == 16 else "INT"}
        weights["granularity"] = "TENSORWISE" if self.bits == 16 else "CHANNELWISE"
        return {
            "weight_tensor_config": weights,
            "compute_precision": "INTEGER" if self.integer else "FLOAT",
            "explicit_dequantize": not self.integer,
            "skip_checks": False,
            "min_weight_elements": SMALLEST,
        }


PRECISIONS: Final[Mapping[str, Precision | None]] = {
    "fp32": None,
    "fp16": Precision(bits=16, integer=False),
    "int8": Precision(bits=8, integer=True),
    "int8w": Precision(bits=8, integer=False),
}
"""By name; ``int8w`` is int8 weights alone, which every runtime can run."""


def quantized(content: bytes, precision: Precision, *, operations: Collection[str], kept: Collection[str]) -> bytes:
    """Quantize a program.

    Args:
        content: The program at full precision.
        precision: What is asked for.
        operations: Names of the operations to quantize.
        kept: Names of those among them whose weights stay at 16 bits.
    """
    rules = [(precision, sorted(set(operations) - set(kept)))]
    if kept:
        rules.append((Precision(bits=16, integer=False), sorted(kept)))
    recipe = [
        {
            "regex": f"^({'|'.join(map(re.escape, names))});$",
            "operation": operation,
            "algorithm_key": "float_casting" if rule.bits == 16 else "min_max_uniform_quantize",
            "op_config": rule.settings(),
        }
        for rule, names in rules
        for operation in ("FULLY_CONNECTED", "EMBEDDING_LOOKUP")
    ]
    with quiet():
        from ai_edge_quantizer import quantizer

        found = quantizer.Quantizer(bytearray(content), recipe).quantize(enable_progress_bar=False, enable_progress_report=False)
    return bytes(found.quantized_model)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the converter and the quantizer from telling the user's terminal each of their steps, and of each other's old habits."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

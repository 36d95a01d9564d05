"""The gate: how likely the local answer is to be right, from the encoder alone, before the first token is decoded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from pocketseq.confidence.evidence import Floats
from pocketseq.confidence.logistic import Logistic

Gate: TypeAlias = Callable[[Floats, Sequence[int]], list[float]]
"""(pooled states float32 [rows, d_model], lengths of the inputs in tokens) → log-odds that each local answer will be right."""


def gate_names(d_model: int) -> tuple[str, ...]:
    """Names of what a gate looks at.

    Args:
        d_model: Width of the pooled state.
    """
    return (f"pooled:{d_model}", "input_length")


def gate_values(pooled: Floats, input_tokens: int) -> Floats:
    """What a gate looks at: the pooled encoder state and the logarithm of the input's length.

    Args:
        pooled: float32 [d_model].
        input_tokens: Length of the input.

    Returns:
        float32 [d_model + 1].
    """
    return np.append(pooled, np.float32(math.log1p(input_tokens)))


def gate(logistic: Logistic) -> Gate:
    """The gate of a logistic regression over ``gate_names``."""
    folded = logistic.folded()
    # In the type of what is asked, so that nothing is converted then.
    states, length, bias = folded.slopes[:-1].astype(np.float32), float(folded.slopes[-1]), folded.bias

    def judge(pooled: Floats, input_tokens: Sequence[int]) -> list[float]:
        # ``dot`` goes straight to the product, where ``@`` first asks which of many it is: for one row half the time.
        products = pooled.dot(states).tolist()
        return [product + length * math.log1p(count) + bias for product, count in zip(products, input_tokens, strict=True)]

    return judge

"""What a scorer may look at: an answer's tokens, and how sure the model was at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]


@dataclass(slots=True)
class Evidence:
    """What is known of one answer when it is done; never changed, and made too often to be frozen."""

    logprobs: Sequence[float]
    """Raw log-probability of each emitted token, the end token included: before temperature, top-k and top-p."""
    tokens: Sequence[int] = ()
    """Id of each."""
    entropies: Sequence[float] = ()
    """Entropy of the raw distribution at each token, in nats; empty where no scorer in force looks at it."""
    gaps: Sequence[float] = ()
    """Log-probability of the likeliest token less that of the second, at each token; empty where no scorer in force looks at it."""
    finished: bool = True
    """Whether the end token came."""
    source: Sequence[int] = ()
    """Token ids of the input."""
    truncated: bool = False
    """Whether a field of the input was cut to its budget."""
    rival: float | None = None
    """Log-probability of the second-best answer as a whole, where a search with beams went on until it had one for certain."""
    gate: float | None = None
    """Log-odds of the pre-decode gate, where there is one and the scorer in force or the caller looks at it."""
    state: Floats | None = field(default=None, compare=False, repr=False)
    """Pooled encoder state, float32 [d_model], where the scorer in force looks at it."""


def spread_of(logprobs: Floats) -> Floats:
    """Entropy in nats, and gap between the two likeliest tokens, of each row's distribution.

    Args:
        logprobs: float32 [rows, vocab], raw log-probabilities.

    Returns:
        float32 [rows, 2].
    """
    found = np.empty((len(logprobs), 2), dtype=np.float32)
    for row, line in enumerate(logprobs):
        best = int(line.argmax())
        # A token that cannot come adds nothing, and 0 · −∞ would be no number.
        found[row, 0] = -np.dot(np.exp(line), np.maximum(line, np.float32(-1e4)))
        below = max(line[:best].max(initial=-np.inf), line[best + 1 :].max(initial=-np.inf))
        found[row, 1] = line[best] - below
    return found

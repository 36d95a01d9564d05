"""Drawing: tokens by chance, each row with a source of randomness of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pocketseq.decoding.settings import Sampling
from pocketseq.decoding.steps import Choose
from pocketseq.runtimes.protocol import Floats, Ids


def drawing(sampling: Sampling, numbers: Mapping[int, int]) -> Choose:
    """A choice of tokens by chance.

    Args:
        sampling: From what is drawn.
        numbers: For each row the number by which it is seeded: its draws hang on that, not on when its neighbours end.
    """
    seeds = {row: None if sampling.seed is None else [sampling.seed, number] for row, number in numbers.items()}
    sources = {row: np.random.default_rng(seed) for row, seed in seeds.items()}

    def choose(scores: Floats, left: Sequence[int]) -> Ids:
        drawn = [_draw(line, sampling, sources[row].random()) for line, row in zip(scores, left, strict=True)]
        return np.array(drawn, dtype=np.int64)

    return choose


def _draw(scores: Floats, sampling: Sampling, uniform: float) -> int:
    """Draw one token by the inverse of the distribution's cumulative sum, likeliest tokens first."""
    kept = np.arange(scores.size)
    if sampling.top_k is not None and sampling.top_k < scores.size:
        kept = np.argpartition(scores, -sampling.top_k)[-sampling.top_k :]
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    logits: NDArray[np.float64] = scores[kept].astype(np.float64)
    weights = np.exp((logits - logits[0]) / sampling.temperature)
    mass = np.cumsum(weights)
    if sampling.top_p is not None:
        mass = mass[: int(np.searchsorted(mass, sampling.top_p * mass[-1])) + 1]
    if sampling.min_p is not None:  # the likeliest weighs 1
        mass = mass[: int((weights[: mass.size] >= sampling.min_p).sum())]
    place = int(np.searchsorted(mass, uniform * mass[-1], side="right"))
    return int(kept[min(place, mass.size - 1)])

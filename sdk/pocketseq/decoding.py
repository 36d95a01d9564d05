"""Decoding: which token comes next, over any runtime. Pure: no clock, no files, no state between calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketseq.errors import InputError
from pocketseq.runtimes.protocol import AnyRuntime, Floats, Ids

FinishReason: TypeAlias = Literal["stop", "length"]
Choose: TypeAlias = Callable[[Floats, Ids], Ids]
"""(log-probabilities float32 [live, vocab], numbers of the live rows, int64 [live]) → token ids int64 [live]."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Draw tokens instead of taking the likeliest: temperature first, then top-k, then top-p."""

    temperature: float = 1.0
    """Divides the logits: below 1 sharper, above 1 flatter."""
    top_k: int | None = None
    """Keep this many of the likeliest tokens; None keeps all."""
    top_p: float | None = None
    """Keep the likeliest tokens that together reach this probability; None keeps all."""
    seed: int | None = None
    """Same seed and row number, same draws, whatever else is in the batch; None draws anew every time."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"temperature: expected a number above 0, found {self.temperature!r}; sampling=None is greedy")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k: expected at least 1, found {self.top_k!r}; None keeps all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p: expected a number above 0 and up to 1, found {self.top_p!r}; None keeps all")
        if self.seed is not None and self.seed < 0:
            raise InputError(f"seed: expected 0 or more, found {self.seed!r}; None draws anew every time")


@dataclass(frozen=True, slots=True)
class Emission:
    """The tokens of one decoder step."""

    rows: Ids
    """Numbers of the rows that were still unfinished, int64 [live]."""
    ids: Ids
    """The token of each, int64 [live]."""
    logprobs: Floats
    """Its raw log-probability, before temperature, top-k and top-p, float32 [live]."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The tokens of one answer."""

    ids: tuple[int, ...]
    """Emitted tokens, the end token included where it came."""
    logprobs: tuple[float, ...]
    """Raw log-probability of each."""
    finish_reason: FinishReason
    """``stop`` at the end token, ``length`` at the limit."""


def emissions(
    runtime: AnyRuntime,
    memory: Any,
    *,
    rows: Sequence[int],
    start_id: int,
    end_id: int,
    max_new_tokens: int,
    sampling: Sampling | None = None,
) -> Iterator[Emission]:
    """Decode a batch step by step; rows that end leave the batch.

    Args:
        runtime: What runs the model.
        memory: What its ``encode`` gave.
        rows: A number for each row of the memory, by which emissions name it and draws are seeded.
        start_id: Token that the decoder is given first.
        end_id: Token that ends a row.
        max_new_tokens: Steps at most, end token included.
        sampling: How to draw; None takes the likeliest token.
    """
    choose = _greedy if sampling is None else _drawing(sampling, rows)
    left: Ids = np.array(rows, dtype=np.int64)
    ids: Ids = np.full(len(rows), start_id, dtype=np.int64)
    cache = runtime.start(len(rows))
    for _ in range(max_new_tokens):
        step = runtime.step(ids[:, None], memory, cache)
        scores, cache = step.logprobs[:, -1], step.cache
        ids = choose(scores, left)
        yield Emission(rows=left, ids=ids, logprobs=scores[np.arange(len(ids)), ids])
        (live,) = (ids != end_id).nonzero()
        if not live.size:
            return
        if live.size < ids.size:
            memory, cache = runtime.select(memory, cache, live)
            left, ids = left[live], ids[live]


def collect(steps: Iterable[Emission], *, end_id: int) -> dict[int, Decoded]:
    """Gather the tokens of each row, by the row's number."""
    tokens: dict[int, list[tuple[int, float]]] = {}
    for step in steps:
        for row, token, logprob in zip(step.rows.tolist(), step.ids.tolist(), step.logprobs.tolist(), strict=True):
            tokens.setdefault(row, []).append((token, logprob))
    return {row: decoded(emitted, end_id=end_id) for row, emitted in tokens.items()}


def decoded(emitted: Sequence[tuple[int, float]], *, end_id: int) -> Decoded:
    """One answer out of its tokens and their log-probabilities."""
    ids, logprobs = zip(*emitted, strict=True)
    return Decoded(ids=ids, logprobs=logprobs, finish_reason="stop" if ids[-1] == end_id else "length")


def _greedy(scores: Floats, rows: Ids) -> Ids:  # noqa: ARG001 the signature is Choose
    best: Ids = scores.argmax(axis=-1)
    return best


def _drawing(sampling: Sampling, rows: Sequence[int]) -> Choose:
    # One source of randomness for each row, so that a row's draws do not depend on when its neighbours end.
    sources = {row: np.random.default_rng(None if sampling.seed is None else [sampling.seed, row]) for row in rows}

    def choose(scores: Floats, left: Ids) -> Ids:
        drawn = [_draw(line, sampling, sources[row].random()) for line, row in zip(scores, left.tolist(), strict=True)]
        return np.array(drawn, dtype=np.int64)

    return choose


def _draw(scores: Floats, sampling: Sampling, uniform: float) -> int:
    """Draw one token by the inverse of the distribution's cumulative sum, likeliest tokens first."""
    kept = np.arange(scores.size)
    if sampling.top_k is not None and sampling.top_k < scores.size:
        kept = np.argpartition(scores, -sampling.top_k)[-sampling.top_k :]
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    logits: NDArray[np.float64] = scores[kept].astype(np.float64)
    mass = np.cumsum(np.exp((logits - logits[0]) / sampling.temperature))
    if sampling.top_p is not None:
        mass = mass[: int(np.searchsorted(mass, sampling.top_p * mass[-1])) + 1]
    place = int(np.searchsorted(mass, uniform * mass[-1], side="right"))
    return int(kept[min(place, mass.size - 1)])

"""Steps: one token for every unfinished row, over any runtime. Pure: no clock, no files, no state between calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from pocketseq.confidence.evidence import spread_of
from pocketseq.decoding.emission import Emission, likeliest
from pocketseq.decoding.settings import FinishReason
from pocketseq.runtimes.protocol import AnyRuntime, Floats, Ids

Choose: TypeAlias = Callable[[Floats, Sequence[int]], Ids]
"""(log-probabilities float32 [live, vocab], numbers of the live rows) → token ids int64 [live]."""
Halt: TypeAlias = Callable[[int], FinishReason | None]
"""(number of a row) → why it must end before its next step, or None."""
Ended: TypeAlias = Callable[[int, int], FinishReason | None]
"""(number of a row, its new token) → why it ends with this token, or None; the end token is not asked about."""


def emissions(
    runtime: AnyRuntime,
    memory: Any,
    *,
    rows: Sequence[int],
    prompt: Sequence[int],
    end_id: int,
    max_new_tokens: int,
    choose: Choose,
    halt: Halt | None = None,
    ended: Ended | None = None,
    alternatives: int = 0,
    spread: bool = False,
) -> Iterator[Emission]:
    """Decode a batch step by step; rows that end leave the batch.

    Args:
        runtime: What runs the model.
        memory: What its ``encode`` gave.
        rows: A number for each row of the memory, by which emissions name it and draws are seeded.
        prompt: Tokens that the decoder is given first, read in one step: the start token and a forced prefix.
        end_id: Token that ends a row.
        max_new_tokens: Steps at most, end token included.
        choose: Which token comes next.
        halt: Asked before every step; None never halts.
        ended: Asked after every token; None leaves it to the end token.
        alternatives: How many of the likeliest tokens to give at each place.
        spread: Whether to give the spread of the distribution at each place.
    """
    left = list(rows)
    tokens: Ids = np.array([prompt] * len(left), dtype=np.int64)
    cache = runtime.start(len(left))
    for number in range(1, max_new_tokens + 1):
        if ending := halted(halt, left):
            yield ending
            if len(ending.endings) == len(left):
                return
            live = [place for place, row in enumerate(left) if row not in ending.endings]
            memory, cache = runtime.select(memory, cache, np.array(live, dtype=np.int64))
            left, tokens = [left[place] for place in live], tokens[live]
        step = runtime.step(tokens, memory, cache)
        scores, cache = step.logprobs[:, -1], step.cache
        chosen = choose(scores, left)
        ids = chosen.tolist()
        endings: dict[int, FinishReason] = {}
        for row, token in zip(left, ids, strict=True):
            if token == end_id:
                endings[row] = "stop"
            elif ended is not None and (reason := ended(row, token)):
                endings[row] = reason
            elif number == max_new_tokens:
                endings[row] = "length"
        yield Emission(
            rows=left,
            ids=ids,
            logprobs=[line.item(token) for line, token in zip(scores, ids, strict=True)],
            endings=endings,
            alternatives=tuple(likeliest(line, alternatives) for line in scores) if alternatives else (),
            spread=spread_of(scores) if spread else None,
        )
        if len(endings) == len(left):
            return
        tokens = chosen[:, None]
        if endings:
            live = [place for place, row in enumerate(left) if row not in endings]
            memory, cache = runtime.select(memory, cache, np.array(live, dtype=np.int64))
            left, tokens = [left[place] for place in live], tokens[live]


def halted(halt: Halt | None, rows: Sequence[int]) -> Emission | None:
    """The rows that must end before their next step, as an emission without tokens; None where none must."""
    endings = {} if halt is None else {row: reason for row in rows if (reason := halt(row))}
    return Emission(rows=(), ids=(), logprobs=(), endings=endings) if endings else None


def best(scores: Floats, rows: Sequence[int]) -> Ids:  # noqa: ARG001 the signature is Choose
    """The likeliest token of each row."""
    ids: Ids = scores.argmax(axis=-1)
    return ids

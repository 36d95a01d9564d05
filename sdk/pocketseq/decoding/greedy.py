"""Greedy answers: the likeliest token at every step, many steps in one call where the runtime can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from pocketseq.decoding.emission import Decoded, Emission
from pocketseq.decoding.settings import FinishReason
from pocketseq.decoding.steps import Ended, Halt, best, emissions, halted
from pocketseq.runtimes.protocol import AnyRuntime, Ids

STRIDE: Final = 8
"""Tokens in one call where something may happen between calls: rows of a batch that have ended leave it, a deadline passes."""


def greedy(
    runtime: AnyRuntime,
    memory: Any,
    *,
    rows: Sequence[int],
    prompt: Sequence[int],
    end_id: int,
    max_new_tokens: int,
    halt: Halt | None = None,
    ended: Ended | None = None,
    ahead: int | None = None,
) -> Iterator[Emission]:
    """Take the likeliest token at every step; see ``emissions``.

    Args:
        runtime: What runs the model; a ``GreedyRuntime`` takes many steps in one call.
        memory: See ``emissions``.
        rows: See ``emissions``.
        prompt: See ``emissions``.
        end_id: See ``emissions``.
        max_new_tokens: See ``emissions``.
        halt: See ``emissions``; asked before every call.
        ended: See ``emissions``.
        ahead: Tokens at most that are decoded before the first of them is given; None leaves it to what is fastest.
    """
    if not hasattr(runtime, "greedy"):
        return emissions(
            runtime,
            memory,
            rows=rows,
            prompt=prompt,
            end_id=end_id,
            max_new_tokens=max_new_tokens,
            choose=best,
            halt=halt,
            ended=ended,
        )
    return _runs(
        runtime,
        memory,
        left=list(rows),
        prompt=prompt,
        end_id=end_id,
        max_new_tokens=max_new_tokens,
        halt=halt,
        ended=ended,
        ahead=ahead or (max_new_tokens if len(rows) == 1 else STRIDE),
    )


def greedy_answer(runtime: Any, memory: Any, *, prompt: Ids, end_id: int, max_new_tokens: int) -> Decoded:
    """The greedy answer to one input that nothing but its end token or the limit can end, without coming back for every token.

    Args:
        runtime: A ``GreedyRuntime``.
        memory: What its ``encode`` gave for one input.
        prompt: What the decoder is given first, int64 [1, tokens], at least one; stays as it is.
        end_id: See ``emissions``.
        max_new_tokens: See ``emissions``.
    """
    last, cache = prompt, runtime.start(1)
    if last.shape[1] > 1:
        cache, last = runtime.step(last[:, :-1], memory, cache).cache, last[:, -1:]
    ids: list[int] = []
    logprobs: list[float] = []
    while len(ids) < max_new_tokens:
        run = runtime.greedy(last, memory, cache, end_id=end_id, limit=max_new_tokens - len(ids))
        ids += run.ids[0].tolist()
        logprobs += run.logprobs[0].tolist()
        if end_id in ids:
            length = ids.index(end_id) + 1
            return Decoded(tuple(ids[:length]), tuple(logprobs[:length]), "stop")
        cache, last = run.cache, run.ids[:, -1:]
    return Decoded(tuple(ids), tuple(logprobs), "length")


def _runs(
    runtime: Any,
    memory: Any,
    *,
    left: list[int],
    prompt: Sequence[int],
    end_id: int,
    max_new_tokens: int,
    halt: Halt | None,
    ended: Ended | None,
    ahead: int,
) -> Iterator[Emission]:
    given: Ids = np.array([prompt] * len(left), dtype=np.int64)
    cache = runtime.start(len(left))
    if len(prompt) > 1:
        cache = runtime.step(given[:, :-1], memory, cache).cache
    last, number = given[:, -1:], 0
    while number < max_new_tokens:
        if ending := halted(halt, left):
            yield ending
            if len(ending.endings) == len(left):
                return
            live = [place for place, row in enumerate(left) if row not in ending.endings]
            memory, cache = runtime.select(memory, cache, np.array(live, dtype=np.int64))
            left, last = [left[place] for place in live], last[live]
        run = runtime.greedy(last, memory, cache, end_id=end_id, limit=min(ahead, max_new_tokens - number))
        places = list(range(len(left)))
        for ids, logprobs in zip(run.ids.T.tolist(), run.logprobs.T.tolist(), strict=True):
            number += 1
            endings: dict[int, FinishReason] = {}
            for place in places:
                row, token = left[place], ids[place]
                if token == end_id:
                    endings[row] = "stop"
                elif ended is not None and (reason := ended(row, token)):
                    endings[row] = reason
                elif number == max_new_tokens:
                    endings[row] = "length"
            yield Emission(
                rows=[left[place] for place in places],
                ids=[ids[place] for place in places],
                logprobs=[logprobs[place] for place in places],
                endings=endings,
            )
            places = [place for place in places if left[place] not in endings]
            if not places:
                return
        cache, last = run.cache, run.ids[:, -1:]
        if len(places) < len(left):
            memory, cache = runtime.select(memory, cache, np.array(places, dtype=np.int64))
            left, last = [left[place] for place in places], last[places]

"""Beam search in one call of the runtime: answers are traced back through what it looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pocketseq.decoding.emission import Decoded
from pocketseq.decoding.settings import Beams, FinishReason
from pocketseq.runtimes.protocol import Floats, Ids, Trellis


def beam_answers(
    runtime: Any, memory: Any, *, prompt: Sequence[int], end_id: int, vocab_size: int, max_new_tokens: int, beams: Beams
) -> list[Decoded] | None:
    """Search the likeliest answers to one input that nothing but the end token or the limit can end; what ``beam_search`` finds.

    Args:
        runtime: A ``BeamRuntime``.
        memory: What its ``encode`` gave for one input.
        prompt: See ``beam_search``.
        end_id: See ``beam_search``.
        vocab_size: Tokens that there are.
        max_new_tokens: See ``beam_search``.
        beams: See ``beam_search``.

    Returns:
        The answers, the best first; None where it takes ``beam_search``.
    """
    if 2 * beams.count > vocab_size:
        return None
    last: Ids = np.array([prompt], dtype=np.int64)
    cache = runtime.start(1)
    if len(prompt) > 1:
        cache, last = runtime.step(last[:, :-1], memory, cache).cache, last[:, -1:]
    lengths = [length**beams.length_penalty for length in range(1, max_new_tokens + 1)]
    reaches = lengths
    if beams.early_stopping is True:
        reaches = [0.0] * max_new_tokens
    elif beams.early_stopping == "never" and beams.length_penalty > 0:
        reaches = lengths[-1:] * max_new_tokens
    trellis: Trellis | None = runtime.beams(
        last,
        memory,
        cache,
        end_id=end_id,
        count=beams.count,
        lengths=np.array(lengths, dtype=np.float32),
        reaches=np.array(reaches, dtype=np.float32),
    )
    if trellis is None or not np.isfinite(trellis.totals).all():
        return None
    return _traced(trellis, np.array(lengths, dtype=np.float32), vocab_size=vocab_size, end_id=end_id, count=beams.count)


def _traced(trellis: Trellis, lengths: Floats, *, vocab_size: int, end_id: int, count: int) -> list[Decoded]:
    """The answers of a search, at most ``count``: the best first, of equals the one that was found first."""
    rounds, last = trellis.places.tolist(), len(lengths)
    scores = (trellis.totals / lengths[: len(rounds), None]).tolist()
    followed: list[list[int]] = []
    found: list[tuple[float, int, int]] = []
    for number, places in enumerate(rounds):
        going = [rank for rank, place in enumerate(places) if place % vocab_size != end_id]
        followed.append(going)
        ended = range(count) if number + 1 == last else [rank for rank in range(count) if rank not in going]
        found += [(-scores[number][rank], number, rank) for rank in ended]
    logprobs = trellis.logprobs.tolist()
    answers = []
    for score, number, rank in sorted(found)[:count]:
        ids: list[int] = []
        said: list[float] = []
        place = rank
        for back in range(number, -1, -1):
            beam, token = divmod(rounds[back][place], vocab_size)
            ids.append(token)
            said.append(logprobs[back][place])
            if back:
                place = followed[back - 1][beam]
        reason: FinishReason = "stop" if ids[0] == end_id else "length"
        answers.append(Decoded(tuple(ids[::-1]), tuple(said[::-1]), reason, score=-score))
    return answers

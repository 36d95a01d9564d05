"""Beam search in one call of the runtime: answers are traced back through what it looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import isfinite
from typing import Any

import numpy as np

from pocketseq.decoding.emission import Decoded, Spread
from pocketseq.decoding.settings import Beams, FinishReason
from pocketseq.runtimes.protocol import Floats, Ids, Trellis


def beam_answers(
    runtime: Any, memory: Any, *, prompt: Ids, end_id: int, vocab_size: int, max_new_tokens: int, beams: Beams
) -> list[Decoded] | None:
    """Search the likeliest answers to one input that nothing but the end token or the limit can end; what ``beam_search`` finds.

    Args:
        runtime: A ``BeamRuntime``.
        memory: What its ``encode`` gave for one input.
        prompt: What the decoder is given first, int64 [1, tokens], at least one; stays as it is.
        end_id: See ``beam_search``.
        vocab_size: Tokens that there are.
        max_new_tokens: See ``beam_search``.
        beams: See ``beam_search``.

    Returns:
        The answers that are wanted, the best first; None where it takes ``beam_search``.
    """
    if 2 * beams.count > vocab_size:
        return None
    last, cache = prompt, runtime.start(1)
    if last.shape[1] > 1:
        cache, last = runtime.step(last[:, :-1], memory, cache).cache, last[:, -1:]
    divisors = _divisors(beams, max_new_tokens)
    trellis: Trellis | None = runtime.beams(
        last,
        memory,
        cache,
        end_id=end_id,
        count=beams.count,
        answers=beams.answers,
        lengths=divisors.lengths,
        reaches=divisors.reaches,
        bounds=divisors.bounds,
    )
    return None if trellis is None else _traced(trellis, divisors.plain, vocab_size=vocab_size, end_id=end_id, beams=beams)


@dataclass(frozen=True, slots=True)
class _Divisors:
    """What totals are divided by, round by round; see ``BeamRuntime.beams``."""

    lengths: Floats
    reaches: Floats
    bounds: Floats
    plain: Sequence[float]
    """The lengths as plain numbers."""


@lru_cache(maxsize=16)
def _divisors(beams: Beams, rounds: int) -> _Divisors:
    lengths = [length**beams.length_penalty for length in range(1, rounds + 1)]
    # No sum of log-probabilities grows, so that this divides it into the best score that its beam can still have.
    bounds = lengths[-1:] * rounds if beams.length_penalty > 0 else lengths
    reaches = {True: [0.0] * rounds, False: lengths, "never": bounds}[beams.early_stopping]
    return _Divisors(
        lengths=np.array(lengths, dtype=np.float32),
        reaches=np.array(reaches, dtype=np.float32),
        bounds=np.array(bounds, dtype=np.float32),
        plain=lengths,
    )


def _traced(trellis: Trellis, lengths: Sequence[float], *, vocab_size: int, end_id: int, beams: Beams) -> list[Decoded] | None:
    """The answers of a search that are wanted, the best first, of equals the one that was found first; None for no numbers."""
    # Plain numbers: of so few, a loop is done sooner than the first of several array operations.
    rounds, totals, logprobs = trellis.places.tolist(), trellis.totals.tolist(), trellis.logprobs.tolist()
    spread = None if trellis.entropies is None or trellis.gaps is None else (trellis.entropies.tolist(), trellis.gaps.tolist())
    if not all(map(isfinite, chain.from_iterable(totals))):
        return None
    followed: list[list[int]] = []
    found: list[tuple[float, int, int]] = []
    for number, places in enumerate(rounds):
        going = [rank for rank, place in enumerate(places) if place % vocab_size != end_id]
        followed.append(going)
        ended = [rank for rank in range(beams.count) if number + 1 == len(lengths) or rank not in going]
        found += [(-totals[number][rank] / lengths[number], number, rank) for rank in ended]
    answers = []
    for score, number, rank in sorted(found)[: beams.answers]:
        ids: list[int] = []
        said: list[float] = []
        seen: list[Spread] = []
        place = rank
        for back in range(number, -1, -1):
            beam, token = divmod(rounds[back][place], vocab_size)
            ids.append(token)
            said.append(logprobs[back][place])
            if spread:
                seen.append((spread[0][back][place], spread[1][back][place]))
            if back:
                place = followed[back - 1][beam]
        reason: FinishReason = "stop" if ids[0] == end_id else "length"
        answers.append(Decoded(tuple(ids[::-1]), tuple(said[::-1]), reason, score=-score, spread=tuple(seen[::-1])))
    return answers

"""Drafts: tokens guessed from a text that the answer is likely to copy, and verified several at a time.

The answer is the greedy one, token by token: a guess only decides how many tokens one step of the decoder looks at. After Stern et
al. 2018, "Blockwise Parallel Decoding", and Yang et al. 2023, "Inference with Reference".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np

from pocketseq.decoding.emission import Decoded, Emission
from pocketseq.decoding.settings import FinishReason
from pocketseq.decoding.steps import Ended, Halt, halted
from pocketseq.runtimes.protocol import AnyRuntime

LONGEST: Final = 32
"""Tokens of a draft: more cost more than they bring, since a step's time grows with them."""
REACH: Final = 12
"""Tokens that an answer may leave out, or put in, and still be followed."""
_PLACES: Final = np.arange(LONGEST + 1)


class CopyDraft:
    """Guesses what comes next by the place in a document at which the answer so far seems to stand."""

    def __init__(self, document: Sequence[int], *, said: Sequence[int] = ()) -> None:
        """Begin at the document's beginning.

        Args:
            document: Token ids of what the answer is likely to copy.
            said: What the answer begins with.
        """
        self._document = list(document)
        self._place = 0
        self._length = LONGEST // 2
        for token in said:
            self._place = self._after(token, self._place)

    def propose(self) -> list[int]:
        """What is likely to come next; empty at the document's end."""
        return self._document[self._place : self._place + self._length]

    def follow(self, token: int, *, agreed: int, proposed: int) -> None:
        """Take note of what came.

        Args:
            token: The token after those that came as proposed.
            agreed: How many came as proposed.
            proposed: How many tokens the last proposal had.
        """
        if proposed:
            self._length = min(LONGEST, 2 * self._length) if agreed == proposed else max(2, self._length // 2, agreed)
        self._place = self._after(token, self._place + agreed)

    def _after(self, token: int, expected: int) -> int:
        """The place after a token that came where another, or no, token was proposed."""
        first = max(0, expected - REACH)
        near = [first + place for place, other in enumerate(self._document[first : expected + REACH]) if other == token]
        if near:
            return min(near, key=lambda place: abs(place - expected)) + 1
        return min(expected + 1, len(self._document))  # one token stands for another


def drafted(
    runtime: AnyRuntime,
    memory: Any,
    *,
    rows: Sequence[int],
    prompt: Sequence[int],
    end_id: int,
    max_new_tokens: int,
    draft: CopyDraft,
    halt: Halt | None = None,
    ended: Ended | None = None,
) -> Iterator[Emission]:
    """Take the likeliest token at every step of one row, several steps at once where the draft is right; see ``emissions``.

    Args:
        runtime: What runs the model.
        memory: What its ``encode`` gave for one input.
        rows: Its number, alone.
        prompt: See ``emissions``.
        end_id: See ``emissions``.
        max_new_tokens: See ``emissions``.
        draft: Guesses.
        halt: See ``emissions``.
        ended: See ``emissions``.
    """
    (row,) = rows
    chunks, number = _verified(runtime, memory, prompt=prompt, end_id=end_id, max_new_tokens=max_new_tokens, draft=draft), 0
    while not (ending := halted(halt, [row])):
        for token, logprob in next(chunks):
            number += 1
            reason: FinishReason | None = "stop" if token == end_id else None if ended is None else ended(row, token)
            if reason is None and number == max_new_tokens:
                reason = "length"
            endings = {} if reason is None else {row: reason}
            yield Emission(rows=[row], ids=[token], logprobs=[logprob], endings=endings)
            if endings:
                return
    yield ending


def drafted_answer(
    runtime: AnyRuntime, memory: Any, *, prompt: Sequence[int], end_id: int, max_new_tokens: int, draft: CopyDraft
) -> Decoded:
    """The same where nothing but the end token or the limit can end the answer, without coming back for every token.

    Args:
        runtime: See ``drafted``.
        memory: See ``drafted``.
        prompt: See ``drafted``.
        end_id: See ``drafted``.
        max_new_tokens: See ``drafted``.
        draft: Guesses.
    """
    chunks = _verified(runtime, memory, prompt=prompt, end_id=end_id, max_new_tokens=max_new_tokens, draft=draft)
    ids, logprobs = zip(*chain.from_iterable(chunks), strict=True)
    return Decoded(ids, logprobs, "stop" if ids[-1] == end_id else "length")


def _verified(
    runtime: AnyRuntime, memory: Any, *, prompt: Sequence[int], end_id: int, max_new_tokens: int, draft: CopyDraft
) -> Iterator[list[tuple[int, float]]]:
    """The tokens of each step of the decoder with their log-probabilities: up to the end token, or as many as wanted."""
    cache, held = runtime.start(1), 0
    given, left = list(prompt), max_new_tokens
    while True:
        guess = draft.propose()[: left - 1]
        step = runtime.step(np.array([[*given, *guess]], dtype=np.int64), memory, cache)
        scores = step.logprobs[0, len(given) - 1 :]
        best = scores.argmax(axis=-1)
        ids: list[int] = best.tolist()
        agreed = next((place for place, token in enumerate(guess) if ids[place] != token), len(guess))
        said = ids[: agreed + 1]
        if end_id in said:
            said = said[: said.index(end_id) + 1]
        yield list(zip(said, scores[_PLACES[: len(said)], best[: len(said)]].tolist(), strict=True))
        left -= len(said)
        if said[-1] == end_id or not left:
            return
        held += len(given) + agreed
        cache = runtime.keep(step.cache, held)
        given = said[-1:]
        draft.follow(said[-1], agreed=agreed, proposed=len(guess))

"""Drafts: tokens guessed from a text that the answer is likely to copy, and verified several at a time.

The answer is the greedy one, token by token: a guess only decides how many tokens one step of the decoder looks at. After Stern et
al. 2018, "Blockwise Parallel Decoding", and Yang et al. 2023, "Inference with Reference".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from pocketseq.decoding.emission import Emission
from pocketseq.decoding.settings import FinishReason
from pocketseq.decoding.steps import Ended, Halt, halted
from pocketseq.runtimes.protocol import AnyRuntime

LONGEST: Final = 16
"""Tokens of a draft: more cost more than they bring, since a step's time grows with them."""
REACH: Final = 12
"""Tokens that an answer may leave out, or put in, and still be followed."""


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
    cache, held = runtime.start(1), 0
    given, said = list(prompt), list[int]()
    while True:
        if ending := halted(halt, [row]):
            yield ending
            return
        guess = draft.propose()[: max_new_tokens - len(said) - 1]
        step = runtime.step(np.array([[*given, *guess]], dtype=np.int64), memory, cache)
        scores = step.logprobs[0, len(given) - 1 :]
        ids = scores.argmax(axis=-1)
        wrong = (ids[:-1] != guess).nonzero()[0]
        agreed = int(wrong[0]) if wrong.size else len(guess)
        for place in range(agreed + 1):
            token = ids.item(place)
            said.append(token)
            reason: FinishReason | None = "stop" if token == end_id else None if ended is None else ended(row, token)
            if reason is None and len(said) == max_new_tokens:
                reason = "length"
            endings = {} if reason is None else {row: reason}
            yield Emission(rows=[row], ids=[token], logprobs=[scores[place].item(token)], endings=endings)
            if endings:
                return
        held += len(given) + agreed
        cache = runtime.keep(step.cache, held)
        given = [said[-1]]
        draft.follow(said[-1], agreed=agreed, proposed=len(guess))

"""Beam search, as Hugging Face's ``generate`` does it: the same hypotheses with the same scores from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from pocketseq.confidence.evidence import spread_of
from pocketseq.decoding.emission import Decoded, Spread
from pocketseq.decoding.ranking import highest
from pocketseq.decoding.rules import Rules
from pocketseq.decoding.settings import Beams, FinishReason
from pocketseq.decoding.steps import Halt
from pocketseq.runtimes.protocol import AnyRuntime, Floats, Ids

Found: TypeAlias = Callable[[Sequence[int]], FinishReason | None]
"""(tokens of an answer) → why it ends with the last of them, or None."""


@dataclass(frozen=True, slots=True)
class _Beam:
    """A beginning that is followed."""

    parent: int
    """Its row in the batch of the step before."""
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """In the raw distribution."""
    total: np.float32
    """Sum of the log-probabilities under the constraints."""
    spread: tuple[Spread, ...] = ()
    """Of the raw distribution at each token, where a scorer looks at it."""


@dataclass(slots=True)
class _Search:
    """The search for one row's answers."""

    row: int
    running: list[_Beam]
    """At most ``Beams.count``, the likeliest first."""
    finished: list[Decoded] = field(default_factory=list)
    """At most ``Beams.count``, the best first."""


@dataclass(frozen=True, slots=True)
class _Course:
    """What is the same for every row and step."""

    end_id: int
    max_new_tokens: int
    beams: Beams
    rules: Rules | None
    found: Found | None
    spread: bool

    def advance(self, search: _Search, raw: Floats, first: int, length: int) -> None:
        """Extend every beam by every token; keep the best that end and the best that go on.

        Args:
            search: Is changed.
            raw: Log-probabilities behind each of its beams, float32 [beams, vocab].
            first: Row of the first of them in the batch.
            length: Tokens that the extended beams have.
        """
        beams, rules, found = self.beams, self.rules, self.found
        scores = (
            raw if rules is None else np.stack([rules.adjust(line, b.ids) for line, b in zip(raw, search.running, strict=True)])
        )
        totals = scores + np.array([beam.total for beam in search.running], dtype=np.float32)[:, None]
        flat = totals.ravel()
        # Twice as many as beams: were the better half all to end, as many would be left to go on.
        top = highest(flat, 2 * beams.count)
        seen: list[list[Spread]] = (
            [[(entropy, gap)] for entropy, gap in spread_of(raw).tolist()] if self.spread else [[]] * len(raw)
        )
        running: list[_Beam] = []
        for rank, place in enumerate(top.tolist()):
            beam, token = divmod(place, raw.shape[1])
            if not np.isfinite(flat[place]):
                break
            old = search.running[beam]
            logprobs = (*old.logprobs, float(raw[beam, token]))
            new = _Beam(first + beam, (*old.ids, token), logprobs, flat[place], (*old.spread, *seen[beam]))
            reason: FinishReason | None = "stop" if token == self.end_id else found(new.ids) if found is not None else None
            if reason is None and length == self.max_new_tokens:
                reason = "length"
            if reason is None:
                running.append(new)
            elif rank < beams.count:
                search.finished.append(self.close(new, reason))
        if not running and not search.finished:  # scores that are no numbers, of a model that is broken
            search.finished = [self.close(search.running[0], "length")]
        search.finished.sort(key=lambda answer: -(answer.score or 0.0))
        del search.finished[beams.count :]
        search.running = running[: beams.count]

    def worthwhile(self, search: _Search, length: int) -> bool:
        """Whether going on can still better the answers found."""
        if len(search.finished) < self.beams.count:
            return True
        if self.beams.early_stopping is True:
            return False
        reach = self.max_new_tokens if self.beams.early_stopping == "never" and self.beams.length_penalty > 0 else length
        return bool(search.running[0].total / reach**self.beams.length_penalty > (search.finished[-1].score or 0.0))

    def close(self, beam: _Beam, reason: FinishReason) -> Decoded:
        """The answer that a beam is when it ends here."""
        length = max(1, len(beam.ids))
        score = float(beam.total / length**self.beams.length_penalty)
        return Decoded(beam.ids, beam.logprobs, reason, score=score, spread=beam.spread)


def beam_search(
    runtime: AnyRuntime,
    memory: Any,
    *,
    rows: Sequence[int],
    prompt: Sequence[int],
    end_id: int,
    max_new_tokens: int,
    beams: Beams,
    rules: Rules | None = None,
    halt: Halt | None = None,
    found: Found | None = None,
    spread: bool = False,
) -> dict[int, list[Decoded]]:
    """Search the likeliest answers of each row.

    Args:
        runtime: What runs the model.
        memory: What its ``encode`` gave.
        rows: A number for each row of the memory.
        prompt: Tokens that the decoder is given first; they do not count as length.
        end_id: Token that ends an answer.
        max_new_tokens: Longest answer, end token included.
        beams: How to search.
        rules: Constraints; None for none.
        halt: Asked before every step: why a row must end with what it has.
        found: Asked about every candidate: why it ends, where it does not with the end token.
        spread: Whether to give the spread of the distribution at each place.

    Returns:
        For each row its answers, the best first, at least one and at most ``beams.count``.
    """
    course = _Course(end_id, max_new_tokens, beams, rules, found, spread)
    searches = [_Search(row, [_Beam(place, (), (), np.float32(0))]) for place, row in enumerate(rows)]
    answers: dict[int, list[Decoded]] = {}
    tokens: Ids = np.array([prompt] * len(rows), dtype=np.int64)
    cache = runtime.start(len(rows))
    for length in range(1, max_new_tokens + 1):
        for search in searches:
            if halt is not None and (reason := halt(search.row)):
                answers[search.row] = search.finished or [course.close(beam, reason) for beam in search.running]
        searches = [search for search in searches if search.row not in answers]
        if not searches:
            break
        if length > 1:
            parents = np.array([beam.parent for search in searches for beam in search.running], dtype=np.int64)
            tokens = np.array([beam.ids[-1:] for search in searches for beam in search.running], dtype=np.int64)
            memory, cache = runtime.select(memory, cache, parents)
        elif len(searches) < len(rows):
            places = np.array([search.running[0].parent for search in searches], dtype=np.int64)
            memory, cache = runtime.select(memory, cache, places)
            tokens = tokens[places]
        step = runtime.step(tokens, memory, cache)
        cache, first = step.cache, 0
        for search in searches:
            last = first + len(search.running)
            raw = step.logprobs[first:last, -1]
            course.advance(search, raw, first, length)
            first = last
            if not search.running or not course.worthwhile(search, length):
                answers[search.row] = search.finished
    return answers

"""Beam search, as Hugging Face's ``generate`` does it: the same hypotheses with the same scores from the same weights.

Under a grammar every beam has a state of its own. What a beam may add is what the grammar allows and what leaves a way to its end
within the room that is left; the next token of that way is always among the candidates, so that no beam ends in a dead end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, TypeAlias, TypeVar

import numpy as np

from pocketseq.confidence.evidence import spread_of
from pocketseq.decoding.emission import Alternatives, Decoded, Spread, likeliest
from pocketseq.decoding.grammar import GrammarState
from pocketseq.decoding.ranking import highest
from pocketseq.decoding.rules import Rules
from pocketseq.decoding.settings import Beams, FinishReason
from pocketseq.decoding.steps import Halt
from pocketseq.runtimes.protocol import AnyRuntime, Floats, Ids

T = TypeVar("T")
Found: TypeAlias = Callable[[Sequence[int]], FinishReason | None]
"""(tokens of an answer) → why it ends with the last of them, or None."""


@dataclass(slots=True)
class _Beam:
    """A beginning that is followed; never changed, and made too often to be frozen, which costs three times as much."""

    parent: int
    """Its row in the batch of the step before."""
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """In the raw distribution."""
    total: np.float32
    """Sum of the log-probabilities under the constraints."""
    grammar: GrammarState | None
    """How far it is in the answer's form; None without one."""
    alternatives: tuple[Alternatives, ...] = ()
    """The likeliest tokens of the raw distribution at each place, where they were asked for."""
    spread: tuple[Spread, ...] = ()
    """Of the raw distribution at each token, where a scorer looks at it."""


@dataclass(slots=True)
class Search:
    """The search for one row's answers."""

    row: int
    """Its number."""
    running: list[_Beam]
    """At most ``Beams.count``, the likeliest first."""
    finished: list[Decoded] = field(default_factory=list)
    """At most ``Beams.count``, the best first."""

    def agreed(self) -> tuple[int, ...]:
        """The tokens with which the best answer begins, whatever is still found; the end token is none of them.

        Of the answers found only the first can still be the best, and all others go on from a running beam.
        """
        ends = [beam.ids for beam in self.running]
        if self.finished:
            best = self.finished[0]
            ends.append(best.ids[:-1] if best.finish_reason == "stop" else best.ids)
        least, most = min(ends), max(ends)  # what these two agree on, all between them do
        for place, (one, other) in enumerate(zip(least, most, strict=False)):
            if one != other:
                return least[:place]
        return min(least, most, key=len)


@dataclass(frozen=True, slots=True)
class _Course:
    """What is the same for every row and step."""

    end_id: int
    max_new_tokens: int
    beams: Beams
    rules: Rules | None
    found: Found | None
    alternatives: int
    spread: bool

    def advance(self, search: Search, raw: Floats, first: int, length: int) -> None:
        """Extend every beam by every token; keep the best that end and the best that go on.

        Args:
            search: Is changed.
            raw: Log-probabilities behind each of its beams, float32 [beams, vocab].
            first: Row of the first of them in the batch.
            length: Tokens that the extended beams have.
        """
        count = self.beams.count
        totals = self._adjusted(search, raw) + np.array([beam.total for beam in search.running], dtype=np.float32)[:, None]
        flat = totals.ravel()
        likely = [likeliest(line, self.alternatives) for line in raw] if self.alternatives else None
        seen: list[Spread] | None = [(entropy, gap) for entropy, gap in spread_of(raw).tolist()] if self.spread else None
        running: list[_Beam] = []
        rank, width, places = 0, raw.shape[1], self._candidates(search, flat)
        for place, total, logprob in zip(places.tolist(), flat[places], raw.ravel()[places].tolist(), strict=True):
            beam, token = divmod(place, width)
            if len(running) == count or not isfinite(total):
                break
            old = search.running[beam]
            grammar = old.grammar
            if grammar is not None:
                grammar = grammar.follow(token, room=self.max_new_tokens - length)
                if grammar is None:
                    continue
            new = _Beam(
                parent=first + beam,
                ids=(*old.ids, token),
                logprobs=(*old.logprobs, logprob),
                total=total,
                grammar=grammar,
                alternatives=() if likely is None else (*old.alternatives, likely[beam]),
                spread=() if seen is None else (*old.spread, seen[beam]),
            )
            reason: FinishReason | None = (
                "stop" if token == self.end_id else self.found(new.ids) if self.found is not None else None
            )
            if reason is None and length == self.max_new_tokens:
                reason = "length"
            if reason is None:
                running.append(new)
            elif rank < count:
                search.finished.append(self.close(new, reason))
            rank += 1
        if not running and not search.finished:  # scores that are no numbers, of a model that is broken
            search.finished = [self.close(search.running[0], "length")]
        search.finished.sort(key=lambda answer: -(answer.score or 0.0))
        del search.finished[count:]
        search.running = running

    def worthwhile(self, search: Search, length: int) -> bool:
        """Whether going on can still better the answers found."""
        if len(search.finished) < self.beams.count:
            return True
        if self.beams.early_stopping is True:
            return False
        reach = self.max_new_tokens if self.beams.early_stopping == "never" and self.beams.length_penalty > 0 else length
        return bool(search.running[0].total / reach**self.beams.length_penalty > (search.finished[-1].score or 0.0))

    def halt(self, search: Search, reason: FinishReason) -> list[Decoded]:
        """The answers of a search that must end now: what is half done stands where it is better; a half form is none."""
        if search.finished and search.running[0].grammar is not None:
            return search.finished
        every = [*search.finished, *(self.close(beam, reason) for beam in search.running)]
        return sorted(every, key=lambda answer: -(answer.score or 0.0))[: self.beams.count]

    def close(self, beam: _Beam, reason: FinishReason) -> Decoded:
        """The answer that a beam is when it ends here."""
        length = max(1, len(beam.ids))
        score = float(beam.total / length**self.beams.length_penalty)
        return Decoded(beam.ids, beam.logprobs, reason, beam.alternatives, score=score, spread=beam.spread)

    def _adjusted(self, search: Search, raw: Floats) -> Floats:
        """The log-probabilities under the constraints."""
        if self.rules is None and search.running[0].grammar is None:
            return raw
        lines = []
        for line, beam in zip(raw, search.running, strict=True):
            adjusted = line if self.rules is None else self.rules.adjust(line, beam.ids)
            lines.append(adjusted if beam.grammar is None else beam.grammar.adjust(adjusted))
        return np.stack(lines)

    def _candidates(self, search: Search, flat: Floats) -> Ids:
        """Places of the extensions that are looked at, the likeliest first."""
        # Twice as many as beams: were the better half all to end, as many would be left to go on.
        top = highest(flat, 2 * self.beams.count)
        width = flat.size // len(search.running)
        ways = [
            number * width + beam.grammar.way_out
            for number, beam in enumerate(search.running)
            if beam.grammar is not None and beam.grammar.way_out is not None
        ]
        if ways:
            places = np.union1d(top, ways)
            top = places[np.argsort(-flat[places], kind="stable")]
        return top


def outcome(steps: Generator[Any, None, T]) -> T:
    """What a search, or any generator, returns when it is run to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found


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
    grammars: Mapping[int, GrammarState] | None = None,
    halt: Halt | None = None,
    found: Found | None = None,
    alternatives: int = 0,
    spread: bool = False,
) -> Generator[Sequence[Search], None, dict[int, list[Decoded]]]:
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
        grammars: The state of each row's grammar, by number; None or empty without one.
        halt: Asked before every step: why a row must end with what it has.
        found: Asked about every candidate: why it ends, where it does not with the end token.
        alternatives: How many of the likeliest tokens to give at each place.
        spread: Whether to give the spread of the distribution at each place.

    Yields:
        After every step the searches that go on.

    Returns:
        For each row its answers, the best first, at least one and at most ``beams.count``.
    """
    course = _Course(end_id, max_new_tokens, beams, rules, found, alternatives, spread)
    states = grammars or {}
    searches = [Search(row, [_Beam(place, (), (), np.float32(0), states.get(row))]) for place, row in enumerate(rows)]
    answers: dict[int, list[Decoded]] = {}
    tokens: Ids = np.array([prompt] * len(rows), dtype=np.int64)
    cache = runtime.start(len(rows))
    for length in range(1, max_new_tokens + 1):
        for search in searches:
            if halt is not None and (reason := halt(search.row)):
                answers[search.row] = course.halt(search, reason)
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
        searches = [search for search in searches if search.row not in answers]
        yield searches
    return answers

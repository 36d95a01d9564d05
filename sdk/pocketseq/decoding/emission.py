"""What decoding gives: tokens as they come, and whole answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pocketseq.decoding.ranking import highest
from pocketseq.decoding.settings import FinishReason
from pocketseq.runtimes.protocol import Floats


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and what the model thinks of it."""

    id: int
    """Token id."""
    logprob: float
    """Log-probability in the raw distribution."""


Alternatives = tuple[TokenLogprob, ...]
"""The likeliest tokens of one place, the likeliest first."""
Spread = tuple[float, float]
"""Entropy in nats of one place's raw distribution, and the gap between its two likeliest tokens."""


@dataclass(frozen=True, slots=True)
class Emission:
    """The tokens of one decoder step."""

    rows: Sequence[int]
    """Numbers of the rows that were still unfinished."""
    ids: Sequence[int]
    """The token of each."""
    logprobs: Sequence[float]
    """Its raw log-probability, before constraints, temperature, top-k, top-p and min-p."""
    endings: Mapping[int, FinishReason]
    """Rows that end here, by number: with this token, or without one where their caller halted them."""
    alternatives: tuple[Alternatives, ...] = ()
    """The likeliest tokens of each row in the raw distribution; empty where none were asked for."""
    spread: Floats | None = None
    """``confidence.spread_of`` the raw distributions, float32 [live, 2]; None where no scorer looks at it."""


@dataclass(slots=True)
class Decoded:
    """The tokens of one answer; never changed, and made too often to be frozen."""

    ids: tuple[int, ...]
    """Emitted tokens, the end token included where it came."""
    logprobs: tuple[float, ...]
    """Raw log-probability of each."""
    finish_reason: FinishReason
    """Why it ends."""
    alternatives: tuple[Alternatives, ...] = ()
    """The likeliest tokens of each place; empty where none were asked for."""
    score: float | None = None
    """Of a beam search: the sum of the log-probabilities by which it was chosen, over length to the penalty's power."""
    spread: tuple[Spread, ...] = ()
    """Of each place, where a scorer looks at it."""


@dataclass(slots=True)
class _Growing:
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[Alternatives] = field(default_factory=list)
    spread: list[Spread] = field(default_factory=list)


def collect(steps: Iterable[Emission], done: Callable[[int, Decoded], None] | None = None) -> dict[int, Decoded]:
    """Gather the tokens of each row, by the row's number.

    Args:
        steps: The steps of one batch.
        done: Told each row's answer as soon as it is whole, while others are still under way.
    """
    growing: dict[int, _Growing] = {}
    answers: dict[int, Decoded] = {}
    for step in steps:
        for place, (row, token, logprob) in enumerate(zip(step.rows, step.ids, step.logprobs, strict=True)):
            answer = growing.get(row)
            if answer is None:
                answer = growing[row] = _Growing()
            answer.ids.append(token)
            answer.logprobs.append(logprob)
            if step.alternatives:
                answer.alternatives.append(step.alternatives[place])
            if step.spread is not None:
                answer.spread.append(tuple(step.spread[place].tolist()))
        for row, reason in step.endings.items():
            grown = growing.pop(row, None) or _Growing()
            answers[row] = Decoded(
                tuple(grown.ids), tuple(grown.logprobs), reason, tuple(grown.alternatives), spread=tuple(grown.spread)
            )
            if done is not None:
                done(row, answers[row])
    return answers


def likeliest(scores: Floats, count: int) -> Alternatives:
    """The likeliest tokens of one distribution.

    Args:
        scores: Log-probabilities, float32 [vocab].
        count: How many; fewer where the vocabulary is smaller.
    """
    top = highest(scores, count)
    return tuple(TokenLogprob(token, logprob) for token, logprob in zip(top.tolist(), scores[top].tolist(), strict=True))

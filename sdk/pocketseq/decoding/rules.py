"""Rules: constraints that change the scores of the next token, given the tokens so far.

They work on log-probabilities, which is where Hugging Face's beam search applies its processors too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pocketseq.decoding.grammar import IMPOSSIBLE, GrammarState
from pocketseq.decoding.settings import Constraints
from pocketseq.decoding.steps import Choose
from pocketseq.errors import InputError
from pocketseq.runtimes.protocol import Floats, Ids


@dataclass(frozen=True, slots=True)
class Rules:
    """The constraints of one call, a grammar apart."""

    constraints: Constraints
    prompt: tuple[int, ...]
    """What the decoder is given first: the start token, the bundle's forced prefix, the caller's prefix."""
    hidden: int
    """How many of the prompt's tokens are no part of the answer."""
    end_id: int

    def adjust(self, scores: Floats, emitted: Sequence[int]) -> Floats:
        """Scores of the next token under the constraints; what may not come has -inf.

        Args:
            scores: Log-probabilities, float32 [vocab]; stays as it is.
            emitted: Tokens behind the prompt so far.

        Raises:
            InputError: no token is left, or ``allowed`` names none that there is.
        """
        wanted, history = self.constraints, [*self.prompt, *emitted]
        adjusted = np.maximum(scores, IMPOSSIBLE)
        if wanted.repetition_penalty != 1.0:
            seen = np.unique(history)
            known = adjusted[seen]
            adjusted[seen] = np.where(known < 0, known * wanted.repetition_penalty, known / wanted.repetition_penalty)
        if wanted.no_repeat_ngram:
            adjusted[repeating(history, wanted.no_repeat_ngram)] = -np.inf
        if len(emitted) < wanted.min_new_tokens:
            adjusted[self.end_id] = -np.inf
        if wanted.suppressed:
            adjusted[list(wanted.suppressed)] = -np.inf
        if wanted.allowed is not None:
            adjusted = _only(adjusted, wanted.allowed(tuple(history[self.hidden :])))
        if np.isneginf(adjusted).all():
            raise InputError(
                f"constraints: expected a token that may come after {len(emitted)} tokens, found none left; loosen them"
            )
        return adjusted


def constrained(
    rules: Rules | None, states: Mapping[int, GrammarState], rows: Sequence[int], max_new_tokens: int, choose: Choose
) -> Choose:
    """A choice of tokens under rules and grammars.

    Args:
        rules: The same for all rows; None where there are none.
        states: The state of each row's grammar, by number; empty without a grammar.
        rows: Numbers of the rows.
        max_new_tokens: Tokens that a row may have, end token included.
        choose: Chooses among the tokens that are left.
    """
    emitted: dict[int, list[int]] = {row: [] for row in rows}
    states = dict(states)

    def accept(row: int, token: int) -> int:
        """Move a row's grammar on; where the token would leave no way to an end, by the next one of a way out."""
        room = max_new_tokens - len(emitted[row]) - 1
        after = states[row].follow(token, room=room)
        if after is None and (way_out := states[row].way_out) is not None:
            token, after = way_out, states[row].follow(way_out, room=room)
        assert after is not None, "a way out can be followed"
        states[row] = after
        return token

    def chosen(scores: Floats, left: Sequence[int]) -> Ids:
        lines = []
        for line, row in zip(scores, left, strict=True):
            adjusted = line if rules is None else rules.adjust(line, emitted[row])
            lines.append(states[row].adjust(adjusted) if states else adjusted)
        ids = choose(np.stack(lines), left)
        for place, row in enumerate(left):
            if states:
                ids[place] = accept(row, int(ids[place]))
            emitted[row].append(int(ids[place]))
        return ids

    return chosen


def repeating(history: Sequence[int], size: int) -> list[int]:
    """Tokens that would repeat a sequence of ``size`` tokens that is in the history already."""
    if len(history) + 1 < size:
        return []
    before = list(history[len(history) - size + 1 :])
    return [history[end] for end in range(size - 1, len(history)) if list(history[end - size + 1 : end]) == before]


def _only(scores: Floats, allowed: Sequence[int]) -> Floats:
    ids = np.asarray(list(allowed), dtype=np.int64)
    if not ids.size or ids.min() < 0 or ids.max() >= scores.size:
        raise InputError(
            f"Constraints.allowed: expected at least one token id, each from 0 to {scores.size - 1}, found {ids[:8].tolist()}"
        )
    kept = np.full_like(scores, -np.inf)
    kept[ids] = scores[ids]
    return kept

"""Grammars: answers that match a regular expression, a JSON Schema or a list, whole at every length of answer.

The token masks come from llguidance. What it does not do is end in time: a form that is half written at the token limit is no
form. So beside the state of the grammar stands a way to close it that fits into the room that is left, and a token that leaves
no such way is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pocketseq.decoding.settings import Constraints
from pocketseq.errors import InputError, MissingExtraError
from pocketseq.runtimes.protocol import Floats

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

IMPOSSIBLE: Final = np.float32(-1e30)
"""Lowest score of a token that may come: where a model gives all of them -inf, one that may not must not win."""
_ORDERS: Final = ('"]}', ']}"', "}0123456789", "")
"""Characters that a search for an end tries first; it is made once in each of these orders."""
_WALKS: Final = 4
"""Searches at random after those, for forms that none of the orders closes."""


@dataclass(frozen=True, slots=True)
class Preference:
    """What a search for an end tries first."""

    ranks: Floats
    """For each token a number, the lowest first, float32 [vocab]."""
    stride: int
    """How far the numbers move on with every token; 0 keeps them."""


class Vocabulary:
    """A tokenizer as grammars see it; made once for a model, and shared by threads."""

    def __init__(self, definition: str, *, size: int, end_id: int) -> None:
        """Read a tokenizer.

        Args:
            definition: Content of its ``tokenizer.json``.
            size: Columns of the model's scores.
            end_id: Token that ends an answer.

        Raises:
            MissingExtraError: llguidance is not installed.
            InputError: llguidance cannot read this tokenizer.
        """
        try:
            from llguidance import LLTokenizer
        except ImportError as error:
            raise MissingExtraError("grammar", "llguidance") from error
        try:
            self.tokenizer: LLTokenizer = LLTokenizer(definition, n_vocab=size, eos_token=end_id)
        except ValueError as error:
            raise InputError(
                f"grammar: expected a tokenizer that llguidance can read, found: {error}; constrain by 'allowed' instead"
            ) from error
        self.size = size
        self.end_id = end_id
        self.preferences = _preferences([self.tokenizer.decode_bytes([token]) for token in range(size)])

    def start(self, constraints: Constraints, *, room: int) -> GrammarState:
        """The state before the first token.

        Args:
            constraints: With a grammar.
            room: Tokens that the answer may have, end token included.

        Raises:
            InputError: the grammar is malformed, or no answer that matches fits.
        """
        from llguidance import LLMatcher

        matcher = LLMatcher(self.tokenizer, _grammar(constraints), log_level=0)
        _check(matcher)
        closing = _closing(matcher, self, room)
        if closing is None and (shortest := _closing(matcher, self, 16 * room + 64)) is not None:
            raise InputError(
                f"max_new_tokens: expected room for an answer that matches, found {room}; the shortest that was found "
                f"takes {len(shortest)} tokens, the end token included"
            )
        return GrammarState(self, matcher, closing)


class GrammarState:
    """How far one answer is in its grammar; a value, which beams can share."""

    def __init__(self, vocabulary: Vocabulary, matcher: LLMatcher, closing: list[int] | None) -> None:
        """Wrap a matcher.

        Args:
            vocabulary: Of the model.
            matcher: Of llguidance; it is not changed from here on.
            closing: Tokens that bring it to an end, the end token included; None where none were found.
        """
        self._vocabulary = vocabulary
        self._matcher = matcher
        self._closing = closing

    @property
    def way_out(self) -> int | None:
        """A token that can always be taken: the next one on the way to an end; None where no way is known."""
        return self._closing[0] if self._closing else None

    def adjust(self, scores: Floats) -> Floats:
        """The scores with -inf at the tokens that the grammar does not allow.

        Args:
            scores: Log-probabilities, float32 [vocab]; stays as it is.

        Raises:
            InputError: the vocabulary has no token with which the grammar could go on.
        """
        mask = _mask(self._matcher, self._vocabulary.size)
        if not mask.any():
            raise InputError("grammar: expected a form that the model's vocabulary can spell, found no token that may come next")
        return np.where(mask, np.maximum(scores, IMPOSSIBLE), np.float32(-np.inf))

    def follow(self, token: int, *, room: int) -> GrammarState | None:
        """The state behind a token.

        Args:
            token: One that the grammar allows.
            room: Tokens that may still follow it.

        Returns:
            The state, or None where the token leaves no way to an end.
        """
        if token == self._vocabulary.end_id:
            return GrammarState(self._vocabulary, self._matcher, [])
        ahead, way = self._matcher.deep_copy(), self._closing
        ahead.consume_token(token)
        if way and token == way[0]:
            closing: list[int] | None = way[1:]
        elif way is None:
            closing = _closing(ahead, self._vocabulary, room)
        else:
            closing = _closing(ahead, self._vocabulary, room, reach=len(way) + 8)
            if closing is None:
                return None
        _check(ahead)
        return GrammarState(self._vocabulary, ahead, closing)


def _grammar(constraints: Constraints) -> str:
    from llguidance import LLMatcher

    if (schema := constraints.schema_text) is not None:
        try:
            # Without a limit to white space an answer could be nothing else.
            return LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": " ?"})
        except ValueError as error:
            raise InputError(f"Constraints.json_schema: expected one that llguidance can read, found: {error}") from None
    pattern = constraints.regex if constraints.regex is not None else "|".join(map(re.escape, constraints.choices))
    return LLMatcher.grammar_from_regex(pattern)


def _check(matcher: LLMatcher) -> None:
    if matcher.is_error():
        reason = " ".join(matcher.get_error().split())
        raise InputError(f"grammar: expected one that llguidance can follow, found: {reason:.300}")


def _mask(matcher: LLMatcher, size: int) -> NDArray[np.bool_]:
    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    return np.unpackbits(bits, count=size, bitorder="little").view(np.bool_)


def _closing(matcher: LLMatcher, vocabulary: Vocabulary, room: int, *, reach: int = 32) -> list[int] | None:
    """A way to an end within ``room`` tokens, the end token included; the shortest that is found where room is scarce.

    Args:
        matcher: Stays as it is.
        vocabulary: Of the model.
        room: Longest way that is of use.
        reach: Longest way that is likely; longer ones are looked for where there is none.
    """
    shortest: list[int] | None = None
    for longest in sorted({min(reach, room), min(8 * reach, room), room}):
        for preference in vocabulary.preferences:
            way = _walk(matcher.deep_copy(), vocabulary, preference, longest if shortest is None else len(shortest) - 1)
            shortest = way or shortest
            if shortest is not None and len(shortest) <= room // 2:
                return shortest  # there is room enough; a shorter way would change nothing
        if shortest is not None:
            return shortest
    return None


def _walk(matcher: LLMatcher, vocabulary: Vocabulary, preference: Preference, room: int) -> list[int] | None:
    way: list[int] = []
    while len(way) < room:
        if matcher.is_accepting() or matcher.is_stopped():
            return None if matcher.is_error() else [*way, vocabulary.end_id]
        tokens = matcher.compute_ff_tokens()
        if not tokens:
            mask = _mask(matcher, vocabulary.size)
            if not mask.any():
                return None
            ranks = np.roll(preference.ranks, len(way) * preference.stride) if preference.stride else preference.ranks
            tokens = [int(np.where(mask, ranks, np.float32(np.inf)).argmin())]
        if not matcher.consume_tokens(tokens):
            return None
        way += tokens
    return None


def _preferences(spelled: Sequence[bytes]) -> tuple[Preference, ...]:
    """Orders in which tokens are tried, short ones first; then walks at random, which leave every loop."""
    lengths = np.array([len(text) if text else 99 for text in spelled]) / 128
    found: list[Preference] = []
    for first in _ORDERS:
        places = {character.encode(): place for place, character in enumerate(first)}
        ranks = [places.get(text, 50 + text[:1].isalnum() + text[:1].isspace()) for text in spelled]
        found.append(Preference((np.array(ranks) + lengths).astype(np.float32), stride=0))
    random = np.random.default_rng(0)  # the same walks in every process
    found += [Preference(random.random(len(spelled)).astype(np.float32), stride=977) for _ in range(_WALKS)]
    return tuple(found)

"""What a caller may ask of decoding: sampling, beams and constraints, each checked where it is made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, Literal, TypeAlias

from pocketseq.characters import check_text
from pocketseq.errors import InputError

FinishReason: TypeAlias = Literal["stop", "length", "stop_string", "deadline", "cancelled"]
"""Why an answer ends: the end token, the limit, a stop string, the caller's deadline, the caller."""


def _is_number(value: object) -> bool:
    return isinstance(value, Real)  # of numpy too


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Draw tokens instead of taking the likeliest: temperature first, then top-k, then top-p, then min-p."""

    temperature: float = 1.0
    """Divides the logits: below 1 sharper, above 1 flatter."""
    top_k: int | None = None
    """Keep this many of the likeliest tokens; None keeps all."""
    top_p: float | None = None
    """Keep the likeliest tokens that together reach this probability; None keeps all."""
    min_p: float | None = None
    """Keep tokens of at least this share of the likeliest one's probability; None keeps all."""
    seed: int | None = None
    """Same seed and row number, same draws, whatever else is in the batch; None draws anew every time."""

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not 0 < self.temperature < math.inf:
            raise InputError(f"temperature: expected a number above 0, found {self.temperature!r}; sampling=None is greedy")
        if self.top_k is not None and (not _is_whole(self.top_k) or self.top_k < 1):
            raise InputError(f"top_k: expected a whole number of at least 1, found {self.top_k!r}; None keeps all")
        if self.top_p is not None and (not _is_number(self.top_p) or not 0 < self.top_p <= 1):
            raise InputError(f"top_p: expected a number above 0 and up to 1, found {self.top_p!r}; None keeps all")
        if self.min_p is not None and (not _is_number(self.min_p) or not 0 <= self.min_p <= 1):
            raise InputError(f"min_p: expected a number from 0 to 1, found {self.min_p!r}; None keeps all")
        if self.seed is not None and (not _is_whole(self.seed) or self.seed < 0):
            raise InputError(f"seed: expected a whole number of at least 0, found {self.seed!r}; None draws anew every time")


_STEEPEST: Final = 8
"""Length penalty beyond which the scores of long answers leave float32."""


@dataclass(frozen=True, slots=True)
class Beams:
    """Beam search: follow several beginnings at once and keep the likeliest ends, as Hugging Face's ``generate`` does."""

    count: int = 4
    """Beginnings that are followed at once."""
    answers: int = 1
    """Best answers to give, at most ``count``; they stand in ``Result.hypotheses``, the best first."""
    length_penalty: float = 1.0
    """Scores are divided by length to this power: above 0 favours longer answers, below 0 shorter ones; from -8 to 8."""
    early_stopping: bool | Literal["never"] = False
    """True stops at ``count`` finished answers, False when the best open one is unlikely to do better, ``never`` when it cannot."""

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 1:
            raise InputError(f"Beams.count: expected a whole number of at least 1, found {self.count!r}")
        if type(self.answers) is not int or not 1 <= self.answers <= self.count:
            raise InputError(f"Beams.answers: expected a whole number from 1 to count={self.count}, found {self.answers!r}")
        if not _is_number(self.length_penalty) or not -_STEEPEST <= self.length_penalty <= _STEEPEST:
            raise InputError(
                f"Beams.length_penalty: expected a number from {-_STEEPEST} to {_STEEPEST}, found {self.length_penalty!r}"
            )
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":  # 1 equals True, and is not the same
            raise InputError(f"Beams.early_stopping: expected True, False or 'never', found {self.early_stopping!r}")


@dataclass(frozen=True, slots=True)
class Constraints:
    """What an answer must and must not hold; what each excludes of the others is refused by name."""

    min_new_tokens: int = 0
    """Tokens before the end token may come."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that were there less likely (Keskar et al. 2019, "CTRL", section 4.1), on log-probabilities."""
    no_repeat_ngram: int = 0
    """No sequence of this many tokens comes twice; 0 allows all."""
    suppressed: tuple[int, ...] = ()
    """Token ids that never come."""
    prefix: str = ""
    """How the answer begins; no part of its tokens and their log-probabilities."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these."""
    allowed: Callable[[Sequence[int]], Sequence[int]] | None = None
    """From the answer's token ids so far, prefix included, to the ids that may come next. What it raises passes as it is."""
    regex: str | None = None
    """The answer matches this regular expression as a whole (no look-around); needs the extra ``grammar``."""
    json_schema: Mapping[str, Any] | None = None
    """The answer is JSON that this schema accepts; needs the extra ``grammar``."""
    choices: tuple[str, ...] = ()
    """The answer is one of these; needs the extra ``grammar``."""

    def __post_init__(self) -> None:
        for name in ("stop", "choices"):
            text: object = getattr(self, name)
            if not isinstance(text, tuple | list) or not all(isinstance(part, str) and part for part in text):
                raise InputError(f"Constraints.{name}: expected a tuple of strings, none empty, found {text!r}")
            object.__setattr__(self, name, tuple(text))
        if not isinstance(self.suppressed, Iterable):
            raise InputError(f"Constraints.suppressed: expected a tuple of token ids, found {self.suppressed!r}")
        object.__setattr__(self, "suppressed", tuple(self.suppressed))
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise InputError(f"Constraints.{name}: expected {kind.__name__} or None, found {type(value).__name__}")
        if not isinstance(self.prefix, str):
            raise InputError(f"Constraints.prefix: expected a text, found {self.prefix!r}")
        for name, text in (("prefix", self.prefix), ("regex", self.regex or ""), *(("choices", text) for text in self.choices)):
            check_text(f"Constraints.{name}", text)
        if type(self.min_new_tokens) is not int or self.min_new_tokens < 0:
            raise InputError(f"Constraints.min_new_tokens: expected a whole number of at least 0, found {self.min_new_tokens!r}")
        if not _is_number(self.repetition_penalty) or not 0 < self.repetition_penalty < math.inf:
            raise InputError(f"Constraints.repetition_penalty: expected a number above 0, found {self.repetition_penalty!r}")
        if type(self.no_repeat_ngram) is not int or self.no_repeat_ngram < 0:
            raise InputError(f"Constraints.no_repeat_ngram: expected a whole number of at least 0, found {self.no_repeat_ngram!r}")
        if any(end in self.prefix for end in self.stop):
            raise InputError(f"Constraints.prefix: expected a text without a stop string, found {self.prefix!r} and {self.stop!r}")
        self._check_grammar()

    def _check_grammar(self) -> None:
        grammars = [name for name in ("regex", "json_schema", "choices") if getattr(self, name) not in (None, ())]
        if len(grammars) > 1:
            raise InputError(f"Constraints: expected one of regex, json_schema and choices, found {' and '.join(grammars)}")
        if grammars:
            free = {name: default for name, default in _BESIDE_A_GRAMMAR.items() if getattr(self, name) != default}
            if free:
                raise InputError(
                    f"Constraints.{grammars[0]}: expected nothing beside it that could break or end the answer, "
                    f"found {' and '.join(free)}; write it into the {grammars[0]}"
                )

    @property
    def has_grammar(self) -> bool:
        """Whether the answer has a form that a library must hold."""
        return self.regex is not None or self.json_schema is not None or bool(self.choices)

    @property
    def schema_text(self) -> str | None:
        """``json_schema`` as JSON; None where there is none.

        Raises:
            InputError: it holds what is no JSON value, or goes too deep.
        """
        if self.json_schema is None:
            return None
        try:
            return json.dumps(dict(self.json_schema))
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"Constraints.json_schema: expected a mapping of JSON values, found {error}") from None

    @property
    def adjusts(self) -> bool:
        """Whether anything changes the scores of tokens, a grammar apart."""
        return bool(
            self.min_new_tokens
            or self.repetition_penalty != 1.0
            or self.no_repeat_ngram
            or self.suppressed
            or self.allowed is not None
        )


_KINDS: Final[Mapping[str, Any]] = {"regex": str, "json_schema": Mapping, "allowed": Callable}
_BESIDE_A_GRAMMAR: Mapping[str, Any] = {
    "min_new_tokens": 0,
    "no_repeat_ngram": 0,
    "suppressed": (),
    "prefix": "",
    "stop": (),
    "allowed": None,
}
"""What must stay as it is beside a grammar."""

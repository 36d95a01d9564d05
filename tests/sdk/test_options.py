"""Options: which values are refused, and which exclude each other, by name."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from pocketseq import Beams, Cancellation, Constraints, PocketModel, Sampling
from pocketseq.errors import InputError

CONFLICTS: list[tuple[Any, str]] = [
    (lambda: Constraints(regex="a", choices=("a",)), "expected one of regex, json_schema and choices, found regex and choices"),
    (lambda: Constraints(regex="a", stop=("b",)), "Constraints.regex: expected nothing beside it .* found stop; write it into"),
    (lambda: Constraints(json_schema={}, prefix="a", no_repeat_ngram=2), "found no_repeat_ngram and prefix; write it into"),
    (lambda: Constraints(prefix="a;b", stop=(";",)), "Constraints.prefix: expected a text without a stop string"),
    (lambda: Constraints(stop="end"), "Constraints.stop: expected a tuple of strings, none empty, found 'end'"),
    (lambda: Constraints(stop=("",)), "Constraints.stop: expected a tuple of strings, none empty"),
    (lambda: Constraints(choices=()), None),
    (lambda: Constraints(min_new_tokens=-1), "Constraints.min_new_tokens: expected a whole number of at least 0, found -1"),
    (lambda: Constraints(repetition_penalty=0.0), "Constraints.repetition_penalty: expected a number above 0"),
    (lambda: Constraints(no_repeat_ngram=1.5), "Constraints.no_repeat_ngram: expected a whole number"),
    (lambda: Constraints(choices=("a", "\ud83d")), "Constraints.choices: expected Unicode text, found a lone surrogate"),
    (lambda: Beams(0), "Beams.count: expected a whole number of at least 1, found 0"),
    (lambda: Beams(2, answers=3), "Beams.answers: expected a whole number from 1 to count=2, found 3"),
    (lambda: Beams(length_penalty=float("nan")), "Beams.length_penalty: expected a number from -8 to 8, found nan"),
    (lambda: Beams(length_penalty=300.0), "Beams.length_penalty: expected a number from -8 to 8, found 300.0"),
    (lambda: Beams(early_stopping=1), "Beams.early_stopping: expected True, False or 'never', found 1"),
    (lambda: Beams(early_stopping="ever"), "Beams.early_stopping: expected True, False or 'never', found 'ever'"),
    (lambda: Sampling(min_p=2.0), "min_p: expected a number from 0 to 1, found 2.0"),
    (lambda: Sampling(temperature="1"), "temperature: expected a number above 0, found '1'"),
    (lambda: Sampling(top_k=2.5), "top_k: expected a whole number of at least 1, found 2.5"),
    (lambda: Sampling(top_p="all"), "top_p: expected a number above 0 and up to 1, found 'all'"),
    (lambda: Sampling(min_p=[0.1]), "min_p: expected a number from 0 to 1"),
    (lambda: Sampling(seed=1.5), "seed: expected a whole number of at least 0, found 1.5"),
    (lambda: Sampling(temperature=np.float32(0.5), top_k=np.int64(3), seed=np.int64(1)), None),
    (lambda: Beams(length_penalty="long"), "Beams.length_penalty: expected a number from -8 to 8, found 'long'"),
    (lambda: Constraints(prefix=3), "Constraints.prefix: expected a text, found 3"),
    (lambda: Constraints(regex=3), "Constraints.regex: expected str or None, found int"),
    (lambda: Constraints(json_schema=[1]), "Constraints.json_schema: expected Mapping or None, found list"),
    (lambda: Constraints(allowed=[1]), "Constraints.allowed: expected Callable or None, found list"),
    (lambda: Constraints(suppressed=3), "Constraints.suppressed: expected a tuple of token ids, found 3"),
    (lambda: Constraints(suppressed=range(3), stop=["a"]), None),
    (lambda: Constraints(repetition_penalty="much"), "Constraints.repetition_penalty: expected a number above 0, found 'much'"),
]


@pytest.mark.parametrize(("make", "message"), CONFLICTS)
def test_constraints_that_exclude_each_other_are_refused(make: Any, message: str | None) -> None:
    """Where they are made, by name."""
    if message is None:
        make()
        return
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": Beams(), "sampling": Sampling()}, "expected beams or sampling, found both"),
        ({"beams": 4}, "beams: expected Beams or None, found 4"),
        ({"sampling": 0.7}, "sampling: expected Sampling or None, found 0.7"),
        ({"constraints": {"stop": ["a"]}}, "constraints: expected Constraints or None"),
        ({"cancellation": True}, "cancellation: expected Cancellation or None, found True"),
        ({"alternatives": -1}, "alternatives: expected a whole number of at least 0, found -1"),
        ({"deadline_s": float("nan")}, "deadline_s: expected a number of seconds or None, found nan"),
        ({"deadline_s": "1"}, "deadline_s: expected a number of seconds or None, found '1'"),
        ({"max_new_tokens": 5, "constraints": Constraints(min_new_tokens=5)}, "expected less than max_new_tokens=5"),
        ({"constraints": Constraints(suppressed=(1, 99999))}, r"Constraints.suppressed: expected token ids .* found \[99999\]"),
        ({"constraints": Constraints(prefix="x" * 40)}, "Constraints.prefix: expected at most 31 tokens, found 40"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_options_that_exclude_each_other_are_refused(model: PocketModel, options: dict[str, Any], message: str) -> None:
    """At the call, by name, before the model runs."""
    for ask in (model.generate, model.stream):
        with pytest.raises(InputError, match=message):
            ask("x", **options)
    with pytest.raises(InputError, match=message):
        model.generate_batch(["x"], **options)


OPTIONS: dict[str, dict[str, Any]] = {
    "beams": {"beams": Beams(2)},
    "sampling": {"sampling": Sampling(seed=1)},
    "draft": {"draft": True},
    "alternatives": {"alternatives": 2},
    "pooled": {"pooled": True},
    "max_new_tokens": {"max_new_tokens": 12},
    "deadline_s": {"deadline_s": 60.0},
    "cancellation": {"cancellation": Cancellation()},
    "on_gate": {"on_gate": lambda probability: None},
    "overflow": {"overflow": "refuse"},
    "stop": {"constraints": {"stop": (";",)}},
    "prefix": {"constraints": {"prefix": "x"}},
    "min_new_tokens": {"constraints": {"min_new_tokens": 2}},
    "repetition_penalty": {"constraints": {"repetition_penalty": 1.2}},
    "no_repeat_ngram": {"constraints": {"no_repeat_ngram": 2}},
    "suppressed": {"constraints": {"suppressed": (5,)}},
    "allowed": {"constraints": {"allowed": lambda tokens: range(50)}},
    "regex": {"constraints": {"regex": "[a-z]{2,5}"}},
    "json_schema": {"constraints": {"json_schema": {"enum": ["a", "b"]}}},
    "choices": {"constraints": {"choices": ("ab", "cd")}},
}
"""Each option alone, valid."""
FORMS = ("regex", "json_schema", "choices")
REFUSED = {
    ("beams", "sampling"): "expected beams or sampling, found both",
    **{("draft", name): f"expected a draft or {name}, found both" for name in ("beams", "sampling", "alternatives")},
    **{
        ("draft", name): "expected a draft or constraints on tokens, found both"
        for name in ("min_new_tokens", "repetition_penalty", "no_repeat_ngram", "suppressed", "allowed", *FORMS)
    },
    **{(one, other): f"found {one} and {other}" for one, other in combinations(FORMS, 2)},
    **{
        (name, form): f"Constraints.{form}: expected nothing beside it that could break or end the answer, found {name}"
        for form in FORMS
        for name in ("stop", "prefix", "min_new_tokens", "no_repeat_ngram", "suppressed", "allowed")
    },
}
"""The pairs that exclude each other, and how they are told; all others go together."""


def both(one: str, other: str) -> dict[str, Any]:
    constraints = {**OPTIONS[one].get("constraints", {}), **OPTIONS[other].get("constraints", {})}
    options = {**OPTIONS[one], **OPTIONS[other]}
    return {**options, "constraints": Constraints(**constraints)} if constraints else options


@pytest.mark.parametrize("one", OPTIONS)
def test_every_pair_of_options_goes_together_or_is_refused_by_name(letters: PocketModel, one: str) -> None:
    """And what goes together answers the same in a batch and in a stream."""
    for other in OPTIONS:
        message = REFUSED.get((one, other)) or REFUSED.get((other, one))
        if message is None:
            options = both(one, other)
            result = letters.generate("abc", **options)
            assert result.tokens
            assert letters.generate_batch(["abc"], **options)[0].text == result.text
            assert "".join(letters.stream("abc", **options)) == result.text
            continue
        for ask in (letters.generate, letters.stream):
            with pytest.raises(InputError, match=re.escape(message)):
                ask("abc", **both(one, other))


def test_an_unknown_option_is_a_type_error(model: PocketModel) -> None:
    """As of any function."""
    with pytest.raises(TypeError, match="num_beams"):
        model.generate("x", num_beams=4)  # type: ignore[call-arg]


def test_an_option_that_there_is_none_of_is_named(letters: PocketModel) -> None:
    """As Python names it, and with those that there are."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'beam'; expected some of: max_new_tokens, beams, "):
        letters.generate("ab", beam=4)  # type: ignore[call-arg]

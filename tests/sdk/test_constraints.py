"""Constraints: what an answer must and must not hold, over models that know nothing of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketseq import Beams, Cancellation, Constraints, PocketModel, Sampling, answers_before
from pocketseq.errors import InputError, MissingExtraError
from pocketseq.testing import scripted_model

TEXT = "for i in rnage(10)"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "home": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
    },
    "required": ["name", "age", "home"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["v", "kids"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


def matches(text: str, constraints: Constraints) -> bool:
    if constraints.regex is not None:
        return re.fullmatch(constraints.regex, text) is not None
    if constraints.choices:
        return text in constraints.choices
    value = json.loads(text)
    if constraints.json_schema is PERSON:
        assert set(PERSON["required"]) <= set(value) <= set(PERSON["properties"])  # type: ignore[arg-type, call-overload]
        assert isinstance(value["name"], str)
        assert 0 <= value["age"] <= 150
        assert isinstance(value["home"]["x"], int | float)
        return set(value.get("tags", [])) <= {"a", "b"}
    stack = [value]
    while stack:
        node = stack.pop()
        assert set(node) == {"v", "kids"}
        assert isinstance(node["v"], int)
        stack += node["kids"]
    return True


GRAMMARS = {
    "date": Constraints(regex=r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    "address": Constraints(regex=r"[A-Z][a-z]{3,40}@[a-z]+\.(com|org)"),
    "loop": Constraints(regex=r"(ab){3,}c|x[0-9]+é"),
    "choice": Constraints(choices=("alpha", "beta", "gamma (delta)*", "ナ")),
    "schema": Constraints(json_schema=PERSON),
    "recursive schema": Constraints(json_schema=TREE),
}


@pytest.fixture(scope="module")
def letters() -> PocketModel:
    """A model with one token a byte that repeats its input."""
    return scripted_model({})


@pytest.mark.parametrize("constraints", GRAMMARS.values(), ids=GRAMMARS)
@pytest.mark.parametrize("sampling", [None, Sampling(temperature=30.0, seed=1), Sampling(temperature=30.0, seed=2)], ids=str)
def test_an_untrained_model_always_answers_in_the_form(
    letters: PocketModel, constraints: Constraints, sampling: Sampling | None
) -> None:
    """At every limit of tokens: whole where there is room for any answer, and refused by name where there is none."""
    answered = 0
    for limit in (2, 9, 12, 17, 20, 47, 48, 49, 64, 200):
        try:
            result = letters.generate(TEXT, constraints=constraints, sampling=sampling, max_new_tokens=limit)
        except InputError as error:
            message = str(error)
        else:
            message = ""
        if message:
            assert re.search(f"max_new_tokens: expected room .*, found {limit}; the shortest .* takes [0-9]+ tokens", message)
            continue
        assert matches(result.text, constraints)
        assert result.finish_reason == "stop"
        assert len(result.tokens) <= limit
        answered += 1
    assert answered >= 3


@pytest.mark.parametrize("constraints", GRAMMARS.values(), ids=GRAMMARS)
def test_random_weights_answer_in_the_form(model: PocketModel, constraints: Constraints) -> None:
    """A vocabulary of subwords, rows of a batch beside one another, and streams."""
    try:
        results = model.generate_batch([TEXT, "x", "é"], constraints=constraints, max_new_tokens=32)
    except InputError:
        if constraints.json_schema is not PERSON:  # which takes more tokens than this model's positions reach
            raise
        return
    for source, result in zip([TEXT, "x", "é"], results, strict=True):
        assert matches(result.text, constraints)
        assert "".join(model.stream(source, constraints=constraints, max_new_tokens=32)) == result.text


def test_log_probabilities_are_those_before_a_grammar(letters: PocketModel) -> None:
    """What was forced upon the model is as unlikely as the model finds it."""
    result = letters.generate("yes", constraints=Constraints(choices=("no",)))
    assert result.text == "no"
    assert result.token_logprobs[0] < np.log(0.01)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (Constraints(regex="("), "grammar: expected one that llguidance can follow, found: .*unclosed group"),
        (Constraints(regex=r"a\b"), "grammar: expected one that llguidance can follow, found: .*lookarounds"),
        (Constraints(json_schema={"type": "frob"}), "grammar: expected one .* found: Invalid type: frob"),
        (Constraints(json_schema={"a": {1, 2}}), "json_schema: expected a mapping of JSON values"),
    ],
    ids=["regex", "look-around", "type", "no json"],
)
def test_a_malformed_grammar_is_refused(letters: PocketModel, constraints: Constraints, message: str) -> None:
    """With what is wrong, and the model answers on."""
    with pytest.raises(InputError, match=message):
        letters.generate("a", constraints=constraints)
    assert letters.generate("a").text == "a"


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it; all else works."""
    monkeypatch.setitem(sys.modules, "llguidance", None)
    model = scripted_model({})
    with pytest.raises(MissingExtraError, match=r'pip install "pocketseq\[grammar\]"'):
        model.generate("a", constraints=Constraints(regex="a"))
    assert model.generate("a", constraints=Constraints(stop=("b",))).text == "a"


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
    (lambda: Beams(early_stopping="ever"), "Beams.early_stopping: expected True, False or 'never', found 'ever'"),
    (lambda: Sampling(min_p=2.0), "min_p: expected a number from 0 to 1, found 2.0"),
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


@pytest.mark.parametrize("constraints", [Constraints(stop=("a",)), Constraints(prefix="a"), Constraints(choices=("a",))])
def test_edits_have_no_place_for_text(edits_bundle: Path, constraints: Constraints) -> None:
    """A bundle that answers with edits refuses what speaks of the answer's text."""
    with (
        PocketModel.load(edits_bundle) as editing,
        pytest.raises(InputError, match="found one that answers with edits of the field"),
    ):
        editing.generate("x", constraints=constraints)


def test_an_answer_ends_before_a_stop_string(letters: PocketModel) -> None:
    """Which is not part of it; the tokens that made it were emitted."""
    result = letters.generate("one;two;three", constraints=Constraints(stop=("two", ";th")))
    assert result.text == "one;"
    assert result.finish_reason == "stop_string"
    assert len(result.tokens) == len("one;two")


STOPS = [("two",), (";", "two"), ("e€",), ("three!",), ("😀",), ("nothing",), ("\ufffd",), ("eee", "ee;"), ("one;two;", "e;t")]


@pytest.mark.parametrize("stops", STOPS, ids=str)
def test_nothing_behind_a_stop_string_is_ever_streamed(letters: PocketModel, stops: tuple[str, ...]) -> None:
    """Not even for a moment, and the pieces are the answer."""
    for text in ("one;two;three€", "eeee;tw;two", "e😀€;nothin", "three"):
        constraints = Constraints(stop=stops)
        whole = letters.generate(text, constraints=constraints)
        complete = next((text[:end] for end in range(len(text) + 1) if any(stop in text[:end] for stop in stops)), None)
        assert whole.text == (text if complete is None else min((complete.split(stop)[0] for stop in stops), key=len))
        given = ""
        for piece in letters.stream(text, constraints=constraints):
            given += piece
            assert whole.text.startswith(given)
        assert given == whole.text


def test_stop_strings_end_beams_too(letters: PocketModel) -> None:
    """In every hypothesis."""
    result = letters.generate("one;two", beams=Beams(3, 3), constraints=Constraints(stop=(";",)))
    assert result.text == "one"
    assert all(";" not in hypothesis.text for hypothesis in result.hypotheses)


def test_a_forced_prefix_begins_the_answer(letters: PocketModel) -> None:
    """In the text and in the stream; its tokens were not the model's choice."""
    constraints = Constraints(prefix="on")
    result = letters.generate("one", constraints=constraints)
    assert result.text == "one"  # the script goes on at the place behind the prefix
    assert len(result.tokens) == len("e") + 1
    assert list(letters.stream("one", constraints=constraints)) == ["o", "n", "e"]
    assert letters.generate("one", beams=Beams(2), constraints=constraints).text == "one"


def test_a_callable_chooses_what_may_come(letters: PocketModel) -> None:
    """It is told the tokens so far, the prefix included."""
    tokenizer = letters._opened().tokenizer
    told: list[Sequence[int]] = []

    def allowed(tokens: Sequence[int]) -> list[int]:
        told.append(tokens)
        return tokenizer.text_ids("xy"[len(tokens) % 2]) if len(tokens) < 4 else [letters.manifest.geometry.end_id]

    assert letters.generate("abc", constraints=Constraints(prefix="x", allowed=allowed)).text == "xyxy"
    assert [len(tokens) for tokens in told] == [1, 2, 3, 4]


@pytest.mark.parametrize("allowed", [lambda _: [], lambda _: [-1], lambda _: [10**6]], ids=["none", "negative", "unknown"])
def test_a_callable_that_allows_nothing_is_refused(letters: PocketModel, allowed: Any) -> None:
    """With what was expected of it."""
    with pytest.raises(InputError, match="Constraints.allowed: expected at least one token id"):
        letters.generate("abc", constraints=Constraints(allowed=allowed))


class Mine(Exception):
    """What a caller's code raises."""


def after(calls: int) -> Callable[..., Any]:
    """A callable that raises at one of its calls, and else allows every token."""
    count = 0

    def broken(*_: Any) -> Any:
        nonlocal count
        count += 1
        if count > calls:
            raise Mine
        return range(200)

    return broken


def stop_reading(model: PocketModel, **options: Any) -> None:
    for number, _ in enumerate(model.stream(TEXT, **options)):
        if number == 1:
            raise Mine


BREAKING: dict[str, Callable[[PocketModel], Any]] = {
    "allowed": lambda model: model.generate(TEXT, constraints=Constraints(allowed=after(2))),
    "allowed, in a batch": lambda model: model.generate_batch([TEXT, "x", "yz"], constraints=Constraints(allowed=after(4))),
    "allowed, with beams": lambda model: model.generate(TEXT, beams=Beams(2), constraints=Constraints(allowed=after(3))),
    "allowed, with draws": lambda model: model.generate(TEXT, sampling=Sampling(), constraints=Constraints(allowed=after(2))),
    "allowed, in a stream": lambda model: list(model.stream(TEXT, constraints=Constraints(allowed=after(2)))),
    "allowed, in a stream of beams": lambda model: list(
        model.stream(TEXT, beams=Beams(2), constraints=Constraints(allowed=after(3)))
    ),
    "a reader": stop_reading,
    "a reader with a form": lambda model: stop_reading(model, constraints=Constraints(regex="[a-z]{9}")),
}


def test_what_was_answered_before_an_error_is_kept(model: PocketModel) -> None:
    """By the number of the input, as it would have come; an error of nothing answered has none."""
    sources = [TEXT[: 4 + number] for number in range(10)]  # more than run at once, the shortest first
    plain = model.generate_batch(sources, constraints=Constraints(allowed=lambda _: range(200)))
    calls = sum(len(result.tokens) for result in plain[:8])
    with pytest.raises(Mine) as raised:
        model.generate_batch(sources, constraints=Constraints(allowed=after(calls)))
    kept = answers_before(raised.value)
    assert {number: result.tokens for number, result in kept.items()} == {number: plain[number].tokens for number in range(8)}
    with pytest.raises(Mine) as raised:
        model.generate_batch(sources, constraints=Constraints(allowed=after(calls - 1)))
    assert answers_before(raised.value) == answers_before(ValueError()) == {}


@pytest.mark.parametrize("name", BREAKING)
def test_what_a_callable_raises_passes_as_it_is(model: PocketModel, letters: PocketModel, name: str) -> None:
    """From every way to ask; later answers of every kind are unchanged."""

    def known(asked: PocketModel) -> list[Any]:
        found = [asked.generate(TEXT), asked.generate(TEXT, beams=Beams(2)), *asked.generate_batch([TEXT, "x"])]
        found.append(asked.generate(TEXT, constraints=Constraints(choices=("ab", "c"))))
        return [(result.text, result.tokens, result.token_logprobs, result.confidence) for result in found]

    for asked in (model, letters):
        before = known(asked)
        with pytest.raises(Mine):
            BREAKING[name](asked)
        assert known(asked) == before


def test_a_form_that_cannot_go_on_leaves_the_model_usable(model: PocketModel) -> None:
    """A vocabulary without a character of the form is told in the middle of the answer, or before it."""
    before = model.generate(TEXT).tokens
    with pytest.raises(InputError, match="grammar: expected|max_new_tokens: expected room"):
        model.generate(TEXT, constraints=Constraints(json_schema={"type": "string", "minLength": 60}), max_new_tokens=20)
    nothing = Constraints(suppressed=tuple(range(model.manifest.geometry.vocab_size)))
    with pytest.raises(InputError, match="constraints: expected a token that may come after 0 tokens"):
        model.generate(TEXT, beams=Beams(2), constraints=nothing)
    assert model.generate(TEXT).tokens == before


def test_constraints_that_leave_no_token_are_refused(letters: PocketModel) -> None:
    """By name, instead of an arbitrary token."""
    size = letters.manifest.geometry.vocab_size
    with pytest.raises(InputError, match="constraints: expected a token that may come after 0 tokens, found none left"):
        letters.generate("abc", constraints=Constraints(suppressed=tuple(range(size))))


def test_best_answers_come_with_their_scores(model: PocketModel) -> None:
    """The first is the result; the log-probabilities of each add up to its score."""
    result = model.generate(TEXT, beams=Beams(4, answers=3, length_penalty=0.0), max_new_tokens=8)
    assert len(result.hypotheses) == 3
    assert (result.text, result.tokens) == (result.hypotheses[0].text, result.hypotheses[0].tokens)
    scores = [hypothesis.score for hypothesis in result.hypotheses]
    assert scores == sorted(scores, reverse=True)
    for hypothesis in result.hypotheses:
        assert sum(hypothesis.token_logprobs) == pytest.approx(hypothesis.score, abs=1e-4)
    assert model.generate(TEXT).hypotheses == ()


def test_one_beam_is_greedy(model: PocketModel) -> None:
    """In a batch too."""
    sources = [TEXT, "x", "def fit(self, x):"]
    greedy = model.generate_batch(sources)
    assert [one.tokens for one in model.generate_batch(sources, beams=Beams(1))] == [one.tokens for one in greedy]


def test_a_cancelled_search_keeps_what_it_has(model: PocketModel) -> None:
    """Nothing before the first step, and says why."""
    cancellation = Cancellation()
    cancellation.cancel()
    result = model.generate(TEXT, beams=Beams(3, 2), cancellation=cancellation)
    assert (result.tokens, result.finish_reason, result.confidence) == ((), "cancelled", None)

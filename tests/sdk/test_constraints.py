"""Constraints: what an answer must and must not hold, over models that know nothing of it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketseq import Beams, Constraints, PocketModel, Sampling
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


DEEP, TOO_DEEP = (reduce(lambda schema, _: {"not": schema}, range(levels), {}) for levels in (130, 100_000))


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
        (Constraints(json_schema=DEEP), "json_schema: expected one that llguidance can read, found: recursion limit exceeded"),
        (Constraints(json_schema=TOO_DEEP), "json_schema: expected a mapping of JSON values, found maximum recursion depth"),
    ],
    ids=["regex", "look-around", "type", "no json", "deep", "deeper"],
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

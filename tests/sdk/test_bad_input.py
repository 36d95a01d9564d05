"""Bad input: whatever comes, there is a result or a typed error, and the next answer is what it was."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketseq import Beams, Constraints, PocketModel, Sampling
from pocketseq.errors import InputError, InputTooLongError, PocketSeqError
from pocketseq.results import Result

from .tiny import SPECIAL

INPUTS: Final = 10_000
MEGABYTE: Final = 1_000_000
PLAIN: Final = "for i in rnage(10):"

CONTROL = "".join(map(chr, [*range(32), *range(0x7F, 0xA0), 0x200B, 0x200D, 0x202E, 0x2028, 0xFEFF, 0xFFFE, 0xFFFF, 0x10FFFF]))
SPACE = " \t\n\r\v\f\u00a0\u1680\u2003\u2028\u3000"
MARKS = ["<cursor>", "<line>", "<after>", "<m0>", "<m63>", "</s>", "<pad>", "\u2581", "<0x00>", "|"]


def letters(rng: random.Random, alphabet: str) -> str:
    return "".join(rng.choices(alphabet, k=rng.randrange(1, 40)))


def any_unicode(rng: random.Random) -> str:
    return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(1, 30)))  # surrogates too


def one_plane(rng: random.Random) -> str:
    start = rng.choice([0, 0x80, 0x300, 0x590, 0x900, 0x3040, 0xAC00, 0xE000, 0x1F300, 0xE0000])
    return "".join(chr(start + rng.randrange(0x100)) for _ in range(rng.randrange(1, 40)))


def surrogates(rng: random.Random) -> str:
    return letters(rng, "ab \ud83d\ude00\udcff")


def code(rng: random.Random) -> str:
    return letters(rng, string.printable)


def long(rng: random.Random) -> str:
    return letters(rng, rng.choice([string.printable, "ab ", "é€😀 ", "\u0301x "])) * rng.randrange(50, 400)


def wrong_kind(rng: random.Random) -> Any:
    fields = {"line": code(rng), rng.choice(["before", "after", "text", "x", ""]): rng.choice([code(rng), None, 3, b"x"])}
    return rng.choice([None, 3, b"bytes", [], [PLAIN], {}, object(), fields, {1: "x"}, float("nan")])


KINDS: list[tuple[Callable[[random.Random], Any], int]] = [
    (any_unicode, 20),
    (one_plane, 20),
    (lambda rng: letters(rng, CONTROL), 10),
    (lambda rng: letters(rng, CONTROL + "abc "), 10),
    (lambda rng: letters(rng, SPACE), 5),
    (surrogates, 5),
    (code, 15),
    (long, 5),
    (lambda rng: rng.choice(MARKS) * rng.randrange(1, 4), 4),
    (lambda rng: "".join(rng.choices([*SPECIAL, *MARKS, "a", " "], k=8)), 4),
    (wrong_kind, 2),
]

HUGE: dict[str, str] = {
    "lines": "for value_1 in range (10): x = 'é'\n" * (MEGABYTE // 36),
    "words": "naïve café €5 😀 " * (MEGABYTE // 17),
    "spaces and a letter": " " * MEGABYTE + "x",
    "one word": "a" * MEGABYTE,
    "line feeds": "\n" * (MEGABYTE - 1) + "x",
    "zeros": "\0" * MEGABYTE,
    "marks": "<m1>" * (MEGABYTE // 4),
    "a surrogate at the end": "a " * (MEGABYTE // 2) + "\ud83d",
}
UNBROKEN: Final = {"spaces and a letter", "one word", "line feeds", "zeros"}
"""Texts without a place where they may be cut: they are read whole, which takes its time."""
REFUSED: Final = {"a surrogate at the end": "found a lone surrogate at character 1000000"}


@pytest.fixture(scope="module")
def models(pristine_bundle: Path, edits_bundle: Path) -> Iterator[list[PocketModel]]:
    """One that answers with text, and one that answers with edits."""
    with PocketModel.load(pristine_bundle) as plain, PocketModel.load(edits_bundle) as editing:
        yield [plain, editing]


def known(model: PocketModel) -> tuple[Any, ...]:
    result = model.generate(PLAIN)
    return result.text, result.tokens, result.token_logprobs, result.confidence


def drain(model: PocketModel, source: Any) -> str:
    return "".join(model.stream(source, max_new_tokens=4))


WAYS: list[Callable[[PocketModel, Any], Any]] = [
    lambda model, source: model.generate(source, max_new_tokens=3),
    lambda model, source: model.generate(source, max_new_tokens=3, overflow="refuse"),
    lambda model, source: model.generate(source, max_new_tokens=3, sampling=Sampling(temperature=3.0, seed=1)),
    lambda model, source: model.generate(source, max_new_tokens=2, beams=Beams(2)),
    lambda model, source: model.generate_batch([source, PLAIN], max_new_tokens=3)[0],
    drain,
    lambda model, source: model.score(PLAIN, source),
]


@pytest.mark.slow
def test_ten_thousand_inputs(models: list[PocketModel]) -> None:
    """Each gives a result or a typed error, in one way of asking or another, and changes no later answer.

    All are asked of the bundle that ships; every fifth of one that answers with text too.
    """
    rng = random.Random(20)
    kinds, weights = zip(*KINDS, strict=True)
    with PocketModel.load("python-fix") as shipped:
        watched = [shipped, models[0]]
        expected = [known(model) for model in watched]
        answered = refused = longest = 0
        for number in range(INPUTS):
            source = rng.choices(kinds, weights)[0](rng)
            way = WAYS[0] if rng.random() < 0.7 else rng.choice(WAYS)
            for model in watched[: 1 if number % 5 else 2]:
                try:
                    answer = way(model, source)
                except PocketSeqError as error:
                    longest = max(longest, len(str(error)))
                    refused += 1
                else:
                    if isinstance(answer, Result):
                        answer.text.encode("utf-8")
                    answered += 1
            if number % 500 == 0:
                assert [known(model) for model in watched] == expected
        assert [known(model) for model in watched] == expected
    assert answered > INPUTS / 2
    assert refused > INPUTS / 20
    assert longest < 1000


@pytest.mark.parametrize("name", HUGE)
def test_a_megabyte_of_text(models: list[PocketModel], name: str) -> None:
    """As an input of either kind of model, and around the line that is asked about."""
    text = HUGE[name]
    expected = [known(model) for model in models]
    asked: list[tuple[PocketModel, Any]] = [(models[0], text)]
    if name not in UNBROKEN:
        asked += [(models[1], text), (models[1], {"line": PLAIN, "before": text})]
    for model, source in asked:
        if name in REFUSED:
            with pytest.raises(InputError, match=REFUSED[name]):
                model.generate(source)
            continue
        result = model.generate(source, max_new_tokens=3)
        assert result.truncated
        assert result.tokens
    assert [known(model) for model in models] == expected


def test_a_word_beyond_the_budget_is_told(models: list[PocketModel]) -> None:
    """The model sees its beginning, and the answer says that it saw no more."""
    result = models[1].generate("x" * 500)
    assert result.truncated == ("line",)
    with pytest.raises(InputTooLongError, match="field 'line': expected at most 24 tokens"):
        models[1].generate("x" * 500, overflow="refuse")


anything = st.text(st.characters(), max_size=60) | st.text(
    st.characters(categories=["Cs", "Cc", "Cf", "Zs", "Co", "Mn"]), max_size=60
)
options = st.fixed_dictionaries(
    {"max_new_tokens": st.just(4)},
    optional={
        "sampling": st.none() | st.builds(Sampling, min_p=st.none() | st.just(0.5), seed=st.just(1)),
        "beams": st.none() | st.just(Beams(2)),
        "constraints": st.none()
        | st.builds(
            Constraints,
            stop=st.lists(anything.filter(bool), max_size=2).map(tuple),
            min_new_tokens=st.integers(0, 5),
            repetition_penalty=st.floats(0.5, 2),
        )
        | st.builds(Constraints, choices=st.lists(anything.filter(bool), max_size=2).map(tuple)),
        "alternatives": st.integers(-1, 500),
        "deadline_s": st.none() | st.floats(),
    },
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=anything, options=options, number=st.integers(0, 1))
def test_any_text_with_any_options(models: list[PocketModel], text: str, options: dict[str, Any], number: int) -> None:
    """A whole answer that streams as it stands, or a typed error."""
    try:
        result = models[number].generate(text, **options)
        streamed = "".join(models[number].stream(text, **options))
    except PocketSeqError:
        return
    assert len(result.tokens) <= 4
    if options.get("deadline_s") is None:
        assert streamed == result.text

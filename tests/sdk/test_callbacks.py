"""Callbacks that raise: their error passes, what was answered is kept, and the model answers on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pocketseq import BatchQueue, Beams, Constraints, PocketModel, Sampling, answers_before
from pocketseq.confidence import Scoring
from pocketseq.testing import scripted_model

TEXT = "for i in rnage(10)"


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
    assert answers_before(ValueError()) == {}


def test_a_row_that_was_done_beside_the_one_that_failed_is_kept() -> None:
    """Rows of one length run together and end one by one: those that had ended are answers, the others are not."""
    model = scripted_model({"aaaa": "b", "cccc": "dddddd"})
    sources, every = ["cccc", "aaaa", "cccc"], range(model.manifest.geometry.vocab_size)
    plain = model.generate_batch(sources, constraints=Constraints(allowed=lambda _: every))

    def allowed(tokens: Sequence[int]) -> Sequence[int]:
        if len(tokens) == 4:
            raise Mine
        return every

    with pytest.raises(Mine) as raised:
        model.generate_batch(sources, constraints=Constraints(allowed=allowed))
    kept = answers_before(raised.value)
    assert {number: (result.text, result.token_logprobs) for number, result in kept.items()} == {
        1: (plain[1].text, plain[1].token_logprobs)
    }
    with pytest.raises(Mine) as raised:
        model.generate_batch(sources, constraints=Constraints(allowed=after(0)))
    assert answers_before(raised.value) == {}


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


async def streamed(model: PocketModel, **options: Any) -> list[str]:
    return [piece async for piece in model.astream(TEXT, **options)]


async def queued(model: PocketModel, **options: Any) -> Any:
    with BatchQueue(model) as queue:
        return await queue.agenerate(TEXT, **options)


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, **options: model.agenerate(TEXT, **options),
        lambda model, **options: model.agenerate_batch([TEXT, "x"], **options),
        streamed,
        queued,
    ],
    ids=["agenerate", "agenerate_batch", "astream", "a queue"],
)
def test_a_callback_that_ends_an_iteration_ends_the_wait(letters: PocketModel, ask: Callable[..., Any]) -> None:
    """Futures refuse StopIteration, which would end what iterates: it is the cause of what is raised, as in a generator."""
    gated = letters.scored_by(Scoring(gate=lambda pooled, lengths: [0.0] * len(lengths)))

    async def wait() -> None:
        async with asyncio.timeout(20):
            await ask(gated, on_gate=lambda probability: next(iter(())))

    with pytest.raises(RuntimeError, match="StopIteration") as raised:
        asyncio.run(wait())
    assert isinstance(raised.value.__cause__, StopIteration)

"""Halting: deadlines, cancelling from another thread, and asking without blocking an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from pocketseq import BatchQueue, Beams, Cancellation, PocketModel
from pocketseq.asynchronous import asked
from pocketseq.errors import InputError, InputTooLongError, RuntimeUnavailableError
from pocketseq.testing import scripted_model

LONG = "a text of many letters " * 8


class Watched:
    """A model that repeats its input, and does something at each of its steps."""

    def __init__(self, at_step: Callable[[int], None]) -> None:
        made = scripted_model({})
        runtime = made._open_runtime()
        self.steps = 0

        class Runtime(type(runtime)):  # type: ignore[misc]
            def step(inner, *arguments: Any) -> Any:
                self.steps += 1
                at_step(self.steps)
                return super().step(*arguments)

        runtime.__class__ = Runtime
        self.model = PocketModel(made.manifest, made.variant, open_tokenizer=made._open_tokenizer, open_runtime=lambda: runtime)


@pytest.fixture
def letters() -> Iterator[PocketModel]:
    with scripted_model({}) as model:
        yield model


def test_an_answer_is_cancelled_within_a_step() -> None:
    """By a token given to the call, from another thread; what there is stands, and later answers are whole."""
    cancellation = Cancellation()

    def cancel(step: int) -> None:
        if step == 5:
            other = threading.Thread(target=cancellation.cancel)
            other.start()
            other.join()

    watched = Watched(cancel)
    result = watched.model.generate(LONG, cancellation=cancellation)
    assert watched.steps == 5
    assert (result.text, result.finish_reason) == (LONG[:5], "cancelled")
    assert len(result.tokens) == len(result.token_logprobs) == 5
    assert watched.model.generate("abc").text == "abc"


def test_a_stream_is_cancelled_within_a_step(letters: PocketModel) -> None:
    """The pieces so far are the answer."""
    cancellation = Cancellation()
    pieces = letters.stream(LONG, cancellation=cancellation)
    given = next(pieces) + next(pieces)
    cancellation.cancel()
    with pytest.raises(StopIteration) as end:
        next(pieces)
    assert given == end.value.value.text == LONG[:2]
    assert end.value.value.finish_reason == "cancelled"


def test_cancelling_ends_all_that_was_given_the_token(letters: PocketModel) -> None:
    """A batch as a whole, beams, and what is asked later; a child hears its parent, not the other way round."""
    parent = Cancellation()
    child = Cancellation(parent)
    Cancellation(parent).cancel()
    assert not parent.cancelled
    parent.cancel()
    assert child.cancelled
    results = letters.generate_batch(["a", "b"] * 40, cancellation=child)
    assert {(result.text, result.finish_reason) for result in results} == {("", "cancelled")}
    assert letters.generate("a", cancellation=child, beams=Beams(2)).finish_reason == "cancelled"


@pytest.mark.parametrize("beams", [None, Beams(2)], ids=["greedy", "beams"])
def test_at_the_deadline_the_answer_so_far_stands(beams: Beams | None) -> None:
    """And says so; the model is not asked for another token."""
    watched = Watched(lambda step: threading.Event().wait(0.02))
    result = watched.model.generate(LONG, deadline_s=0.15, beams=beams)
    assert result.finish_reason == "deadline"
    assert 0 < len(result.tokens) == watched.steps < len(LONG)
    assert result.text == LONG[: len(result.tokens)]


def test_a_deadline_that_is_over_leaves_an_empty_answer(letters: PocketModel) -> None:
    """With no confidence, rather than a made-up one; an input is still checked."""
    for deadline_s in (0, -3.5):
        result = letters.generate("abc", deadline_s=deadline_s)
        assert (result.text, result.tokens, result.confidence, result.finish_reason) == ("", (), None, "deadline")
        assert list(letters.stream("abc", deadline_s=deadline_s)) == []
    with pytest.raises(InputError):
        letters.generate(" ", deadline_s=0)


def test_a_deadline_far_away_changes_nothing(letters: PocketModel) -> None:
    """Infinity too."""
    for deadline_s in (60.0, float("inf")):
        assert letters.generate("abc", deadline_s=deadline_s).finish_reason == "stop"


def test_an_edit_that_was_not_begun_leaves_the_line(edits_bundle: Any) -> None:
    """In the stream as in the answer."""
    with PocketModel.load(edits_bundle) as editing:
        assert editing.generate("retrun x", deadline_s=0).text == "retrun x"
        assert "".join(editing.stream("retrun x", deadline_s=0)) == "retrun x"


def test_asking_does_not_block_the_loop(model: PocketModel) -> None:
    """Many at once, each with the answer that it gets alone."""
    texts = ["for i in rnage(10)", "x", "def fit(self, x):", "naïve café €5 😀"]

    async def ask() -> Any:
        singles = await asyncio.gather(*(model.agenerate(text) for text in texts))
        many = await model.agenerate_batch(texts)
        stream = model.astream(texts[0], max_new_tokens=6)
        assert stream.result is None
        return singles, many, [piece async for piece in stream], stream.result

    singles, many, pieces, streamed = asyncio.run(ask())
    expected = [model.generate(text).text for text in texts]
    assert [result.text for result in singles] == [result.text for result in many] == expected
    assert "".join(pieces) == streamed.text == model.generate(texts[0], max_new_tokens=6).text


class Unopened:
    """A model that repeats its input, of which the opening waits to be let go."""

    def __init__(self) -> None:
        made = scripted_model({})
        self.opening, self.go_on = threading.Event(), threading.Event()

        def open_runtime() -> Any:
            self.opening.set()
            assert self.go_on.wait(10)
            return made._open_runtime()

        self.model = PocketModel(made.manifest, made.variant, open_tokenizer=made._open_tokenizer, open_runtime=open_runtime)

    async def after_opening(self, asked: Coroutine[Any, Any, Any], *, delay_s: float = 0.0) -> Any:
        """What was asked, while the loop lets the opening go on, after some time."""
        task = asyncio.create_task(asked)
        assert await asyncio.to_thread(self.opening.wait, 10)
        await asyncio.sleep(delay_s)
        self.go_on.set()
        return await task


async def answered(model: PocketModel, **options: Any) -> Any:
    return await model.agenerate("abc", **options)


async def streamed(model: PocketModel, **options: Any) -> Any:
    stream = model.astream("abc", **options)
    pieces = [piece async for piece in stream]
    assert stream.result is not None
    assert stream.result.text == "".join(pieces)
    return stream.result


async def queued(model: PocketModel, **options: Any) -> Any:
    with BatchQueue(model) as queue:
        return await queue.agenerate("abc", **options)


@pytest.mark.parametrize("ask", [answered, streamed, queued])
def test_opening_the_model_does_not_block_the_loop(ask: Callable[..., Coroutine[Any, Any, Any]]) -> None:
    """At its first answer, on every way to ask; a deadline counts from the call all the same."""
    first, late = Unopened(), Unopened()
    assert asyncio.run(first.after_opening(ask(first.model))).text == "abc"
    result = asyncio.run(late.after_opening(ask(late.model, deadline_s=0.01), delay_s=0.05))
    assert (result.text, result.finish_reason) == ("", "deadline")


def test_a_stream_tells_what_only_an_open_model_knows_with_its_first_piece() -> None:
    """Where it is what opens the model; of an open one at the call, as that a model is closed."""
    unopened = Unopened()

    async def first() -> None:
        await anext(unopened.model.astream("a" * 300, overflow="refuse"))

    with pytest.raises(InputTooLongError, match="field 'text': expected at most 256 tokens"):
        asyncio.run(unopened.after_opening(first()))
    with pytest.raises(InputTooLongError, match="field 'text': expected at most 256 tokens"):
        unopened.model.astream("a" * 300, overflow="refuse")
    unopened.model.close()
    with pytest.raises(RuntimeUnavailableError, match="found it closed"):
        unopened.model.astream("a")


def test_a_busy_loop_keeps_nobody_waiting(letters: PocketModel) -> None:
    """Answers have threads of their own: they do not stand in line behind what others gave to the loop's pool."""
    release = threading.Event()

    async def ask() -> tuple[str, str, str]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, release.wait, 60)
        try:
            async with asyncio.timeout(20):
                one = await letters.agenerate("abc", deadline_s=10)
                (other,) = await letters.agenerate_batch(["def"])
                return one.text, other.text, "".join([piece async for piece in letters.astream("ghi")])
        finally:
            release.set()
            await busy

    assert asyncio.run(ask()) == ("abc", "def", "ghi")


def test_the_clock_runs_from_the_call_not_from_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read where somebody asks, and what answers is told."""
    readers: list[threading.Thread] = []

    def clock() -> float:
        readers.append(threading.current_thread())
        return 7.0

    monkeypatch.setattr("pocketseq.asynchronous.perf_counter", clock)
    assert asyncio.run(asked(lambda request, called: (request.deadline_s, called), {"deadline_s": 5})) == (5, 7.0)
    assert readers == [threading.current_thread()]


def test_a_cancelled_task_stops_the_model() -> None:
    """Within a step; a token that the caller gave stays as it is."""
    begun, go_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def at_step(step: int) -> None:
        threads.append(threading.current_thread())
        if step == 3:
            begun.set()
            go_on.wait(10)

    watched = Watched(at_step)
    cancellation = Cancellation()

    async def ask() -> None:
        task = asyncio.create_task(watched.model.agenerate(LONG, cancellation=cancellation))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(ask())
    threads[0].join(10)
    assert watched.steps == 3
    assert not cancellation.cancelled


def test_a_cancelled_stream_stops_the_model() -> None:
    """Cancelled while it waits for a piece, or closed between two."""
    begun, go_on = threading.Event(), threading.Event()

    def at_step(step: int) -> None:
        if step == 3:
            begun.set()
            go_on.wait(10)

    watched = Watched(at_step)

    async def ask() -> None:
        stream = watched.model.astream(LONG)

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        go_on.set()
        with suppress(asyncio.CancelledError):
            await task
        await stream.aclose()
        closed = watched.model.astream(LONG)
        assert await anext(closed) == LONG[0]
        await closed.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(closed)

    asyncio.run(ask())
    assert watched.steps == 3 + 1


def test_a_stream_that_is_cancelled_twice_can_be_closed() -> None:
    """Such as by a timeout, and then at the end of the application: the model may still be at its step, which is waited for."""
    begun, go_on = threading.Event(), threading.Event()

    def at_step(step: int) -> None:
        begun.set()
        go_on.wait(10)

    watched = Watched(at_step)

    async def ask() -> None:
        stream = watched.model.astream(LONG)
        task = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        closing = asyncio.create_task(stream.aclose())
        await asyncio.sleep(0.05)
        assert not closing.done()
        go_on.set()
        await closing
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(ask())
    assert watched.steps == 1


def test_bad_input_is_told_at_the_call(model: PocketModel) -> None:
    """Before a stream is iterated, and before a model is opened for it."""
    with pytest.raises(InputError, match="expected text in the field"):
        Unopened().model.astream("")
    with pytest.raises(InputError, match="expected text in the field"):
        model.astream("")
    with pytest.raises(InputError, match="expected text in the field"):
        asyncio.run(model.agenerate(""))
    with pytest.raises(InputError, match="cancellation: expected Cancellation or None, found True"):
        asyncio.run(model.agenerate("x", cancellation=True))  # type: ignore[arg-type]

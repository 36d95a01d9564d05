"""The batch queue: many callers, one model, bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import reduce
from typing import Any

import numpy as np
import pytest

from pocketseq import BatchQueue, Beams, Cancellation, Constraints, PocketModel, Sampling
from pocketseq.errors import InputError, QueueFullError, RuntimeUnavailableError
from pocketseq.testing import scripted_model

TEXTS = ["for i in rnage(10)", "x", "def fit(self, x):", "naïve café €5 😀", "return self._value + 1"]


class Gate:
    """A model that answers with its input, and waits at the encoder until it is let go."""

    def __init__(self) -> None:
        made = scripted_model({})
        runtime = made._open_runtime()
        self.open = threading.Event()
        self.waiting = threading.Event()
        self.batches: list[int] = []

        class Runtime(type(runtime)):  # type: ignore[misc]
            def encode(inner, input_ids: Any, attention_mask: Any) -> Any:
                self.batches.append(len(input_ids))
                self.waiting.set()
                assert self.open.wait(10)
                return super().encode(input_ids, attention_mask)

        runtime.__class__ = Runtime
        self.model = PocketModel(made.manifest, made.variant, open_tokenizer=made._open_tokenizer, open_runtime=lambda: runtime)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def test_every_caller_gets_the_answer_that_it_gets_alone(model: PocketModel) -> None:
    """From many threads, with options of different kinds side by side."""
    kinds: list[dict[str, Any]] = [{}, {"max_new_tokens": 3}, {"sampling": Sampling(temperature=2.0, seed=5)}, {"beams": Beams(2)}]
    asked = [(TEXTS[number % 5], kinds[number % 4]) for number in range(80)]
    with BatchQueue(model) as queue, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda one: queue.generate(one[0], **one[1]), asked))
    for (text, options), result in zip(asked, found, strict=True):
        alone = model.generate(text, **options)
        assert (result.text, result.tokens, result.finish_reason) == (alone.text, alone.tokens, alone.finish_reason)


def test_what_waits_runs_together(gate: Gate) -> None:
    """As many as may, oldest first; those with other options apart."""
    with BatchQueue(gate.model, max_batch=4) as queue:
        first = queue.submit("first")
        assert gate.waiting.wait(10)
        futures = [queue.submit(f"t{number}") for number in range(3)]
        other = queue.submit("other", max_new_tokens=2)
        futures += [queue.submit(f"t{number}") for number in range(3, 6)]
        gate.open.set()
        assert [future.result(10).text for future in futures] == [f"t{number}" for number in range(6)]
        assert (first.result(10).text, other.result(10).text) == ("first", "ot")
    assert gate.batches == [1, 4, 1, 2]


def test_one_request_too_many_is_refused(gate: Gate) -> None:
    """At once, with a typed error; those that wait are answered."""
    with BatchQueue(gate.model, max_waiting=2) as queue:
        futures = [queue.submit("a")]
        assert gate.waiting.wait(10)
        futures += [queue.submit("b"), queue.submit("c")]
        with pytest.raises(QueueFullError, match="expected at most 2 requests waiting, found as many; ask again later"):
            queue.submit("d")
        gate.open.set()
        assert [future.result(10).text for future in futures] == ["a", "b", "c"]
        assert queue.generate("d").text == "d"


def test_the_deadline_counts_from_the_request(gate: Gate) -> None:
    """What waited too long is answered with nothing, without the model; its neighbours are."""
    with BatchQueue(gate.model) as queue:
        first = queue.submit("a")
        assert gate.waiting.wait(10)
        late, patient = queue.submit("b", deadline_s=0.01), queue.submit("c", deadline_s=60)
        threading.Event().wait(0.05)
        gate.open.set()
        result = late.result(10)
        assert (result.text, result.finish_reason) == ("", "deadline")
        assert (first.result(10).text, patient.result(10).text) == ("a", "c")
    assert gate.batches == [1, 1]


def test_a_late_request_is_told_before_those_that_are_in_front_of_it(gate: Gate) -> None:
    """After the batch that is under way, not after all that came before."""
    order: list[str] = []
    with BatchQueue(gate.model, max_batch=1) as queue:
        futures = {"a": queue.submit("a")}
        assert gate.waiting.wait(10)
        for name in ("b", "c"):
            futures[name] = queue.submit(name)
        futures["late"] = queue.submit("late", deadline_s=0.01, max_new_tokens=3)
        for name, future in futures.items():
            future.add_done_callback(lambda _, name=name: order.append(name))
        threading.Event().wait(0.05)
        gate.open.set()
        assert futures["late"].result(10).finish_reason == "deadline"
        assert futures["c"].result(10).text == "c"
    assert order == ["a", "late", "b", "c"]


def test_what_was_cancelled_makes_room(gate: Gate) -> None:
    """A full queue of requests that nobody waits for takes new ones."""
    with BatchQueue(gate.model, max_waiting=2) as queue:
        queue.submit("a")
        assert gate.waiting.wait(10)
        gone = [queue.submit("b"), queue.submit("c")]
        assert gone[0].cancel()
        taken = queue.submit("d")
        with pytest.raises(QueueFullError):
            queue.submit("e")
        gate.open.set()
        assert taken.result(10).text == "d"
        assert gone[1].result(10).text == "c"


def test_a_request_is_cancelled_before_its_turn_or_in_it(gate: Gate) -> None:
    """By its future while it waits, by its token any time."""
    with BatchQueue(gate.model) as queue:
        queue.submit("a")
        assert gate.waiting.wait(10)
        gone, token = queue.submit("b"), Cancellation()
        stopped, patient = queue.submit("c", cancellation=token), queue.submit("d")
        assert gone.cancel()
        token.cancel()
        gate.open.set()
        assert patient.result(10).text == "d"
        assert stopped.result(10).finish_reason == "cancelled"
        with pytest.raises(CancelledError):
            gone.result(10)
    assert gate.batches == [1, 1]


def test_a_cancelled_task_leaves_the_queue(gate: Gate) -> None:
    """Its neighbours are answered."""

    async def ask(queue: BatchQueue) -> str:
        first = asyncio.create_task(queue.agenerate("a"))
        await asyncio.to_thread(gate.waiting.wait, 10)
        gone, patient = asyncio.create_task(queue.agenerate("b")), asyncio.create_task(queue.agenerate("c"))
        await asyncio.sleep(0)
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
        gate.open.set()
        return (await first).text + (await patient).text

    with BatchQueue(gate.model) as queue:
        assert asyncio.run(ask(queue)) == "ac"
    assert gate.batches == [1, 1]


def test_a_request_that_fails_fails_alone(gate: Gate) -> None:
    """Its neighbours in the batch are answered, without being asked again where they were done, and so are later ones."""

    def broken(tokens: Sequence[int]) -> Sequence[int]:
        if len(tokens) == 2:
            raise LookupError("mine")
        return range(200)

    constraints = Constraints(allowed=broken)
    with BatchQueue(gate.model) as queue:
        queue.submit("a")
        assert gate.waiting.wait(10)
        short, long = queue.submit("b", constraints=constraints), queue.submit("bcd", constraints=constraints)
        gate.open.set()
        assert short.result(10).text == "b"
        with pytest.raises(LookupError, match="mine"):
            long.result(10)
        assert gate.batches == [1, 2, 1]
        assert queue.generate("bcd").text == "bcd"


DEEP, TOO_DEEP = (reduce(lambda schema, _: {"not": schema}, range(levels), {}) for levels in (130, 100_000))


@pytest.mark.parametrize(
    "schema", [DEEP, TOO_DEEP, {"enum": np.array(["a", "b"])}], ids=["too deep for a grammar", "too deep", "no JSON"]
)
def test_a_form_that_is_none_is_its_callers_error_alone(gate: Gate, schema: dict[str, Any]) -> None:
    """Also where two of them wait behind another: their neighbours are answered, and so are later ones."""

    def refused(queue: BatchQueue) -> Future[Any]:
        try:
            return queue.submit("x", constraints=Constraints(json_schema=schema))
        except InputError as error:
            told: Future[Any] = Future()
            told.set_exception(error)
            return told

    with BatchQueue(gate.model) as queue:
        queue.submit("a")
        assert gate.waiting.wait(10)
        first, second, neighbour = refused(queue), refused(queue), queue.submit("b")
        gate.open.set()
        for future in (first, second):
            with pytest.raises(InputError, match="Constraints.json_schema: expected"):
                future.result(10)
        assert neighbour.result(10).text == "b"
        assert queue.submit("c").result(10).text == "c"


def test_options_are_alike_by_what_they_say(gate: Gate) -> None:
    """Schemas and stop strings by their content, callbacks by being the same; the order of a schema's keys is one of answers."""

    class Ear(list[float]):
        """A list cannot be hashed, and may be a callback all the same."""

        def __call__(self, probability: float) -> None:
            self.append(probability)

    ear, heard = Ear(), list[float]()
    alike: list[list[dict[str, Any]]] = [
        [{"constraints": Constraints(json_schema={"enum": ["ab", "cd"]})} for _ in range(2)],
        [{"constraints": Constraints(json_schema={"title": "t", "enum": ["ab", "cd"]})}],
        [{"constraints": Constraints(json_schema={"enum": ["ab", "cd"], "title": "t"})}],
        [{"constraints": Constraints(stop=["x"])}, {"constraints": Constraints(stop=("x",))}],  # type: ignore[arg-type]
        [{"on_gate": ear, "deadline_s": 60}, {"on_gate": ear, "cancellation": Cancellation()}],
        [{"on_gate": Ear()}],
        [{"on_gate": heard.append}, {"on_gate": ear.append}],
        [{"on_gate": lambda probability: None}],
    ]
    with BatchQueue(gate.model) as queue:
        queue.submit("a")
        assert gate.waiting.wait(10)
        futures = [queue.submit("a", **options) for kind in alike for options in kind]
        gate.open.set()
        for future in futures:
            future.result(10)
    assert gate.batches == [1, 2, 1, 1, 2, 2, 1, 1, 1, 1]


def test_an_option_that_cannot_be_compared_is_refused(model: PocketModel) -> None:
    """At the call, instead of where the next one is held against it."""
    with BatchQueue(model) as queue, pytest.raises(InputError, match="expected options that can be held against those of other"):
        queue.submit("x", pooled=np.array([1]))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # a thread that ends so is the point
def test_nobody_waits_for_a_thread_that_is_gone(gate: Gate) -> None:
    """What ends it, such as a callback that leaves, is told to all who wait, and the queue takes no more."""

    def leave(_: object) -> None:
        raise SystemExit("enough")

    queue = BatchQueue(gate.model, max_batch=2)
    first = queue.submit("a")
    assert gate.waiting.wait(10)
    leaving, beside, behind = queue.submit("b"), queue.submit("c"), queue.submit("d")
    leaving.add_done_callback(leave)
    gate.open.set()
    assert (first.result(10).text, leaving.result(10).text) == ("a", "b")
    for future in (beside, behind):
        with pytest.raises(RuntimeUnavailableError, match=r"found it ended by SystemExit\('enough'\); make another") as told:
            future.result(10)
        assert isinstance(told.value.__cause__, SystemExit)
    with pytest.raises(RuntimeUnavailableError, match="expected an open BatchQueue, found it closed"):
        queue.submit("e")
    queue.close()


def test_bad_input_is_told_at_the_call(model: PocketModel) -> None:
    """And bad numbers at the making."""
    with BatchQueue(model) as queue:
        with pytest.raises(InputError, match="expected text in the field"):
            queue.submit("")
        with pytest.raises(InputError, match="expected beams or sampling, found both"):
            queue.submit("x", beams=Beams(), sampling=Sampling())
    for name in ("max_waiting", "max_batch"):
        with pytest.raises(InputError, match=f"{name}: expected a whole number of at least 1, found 0"):
            BatchQueue(model, **{name: 0})


def test_closing_answers_what_waits_and_refuses_what_comes(gate: Gate) -> None:
    """Twice is no error, and the model stays open."""
    queue = BatchQueue(gate.model)
    futures = [queue.submit("a"), queue.submit("b")]
    closing = threading.Thread(target=queue.close)
    closing.start()
    gate.open.set()
    closing.join(10)
    assert [future.result(0).text for future in futures] == ["a", "b"]
    queue.close()
    with pytest.raises(RuntimeUnavailableError, match="expected an open BatchQueue, found it closed"):
        queue.submit("c")
    assert gate.model.generate("c").text == "c"


def test_a_queue_that_takes_nothing_opens_no_model(gate: Gate) -> None:
    """Opening takes long, and may keep what it opened for nobody."""
    queue = BatchQueue(gate.model)
    queue.close()
    with pytest.raises(RuntimeUnavailableError, match="expected an open BatchQueue, found it closed"):
        asyncio.run(queue.agenerate("for"))
    with pytest.raises(RuntimeUnavailableError, match="expected an open BatchQueue, found it closed"):
        queue.generate("for")
    assert gate.model._engine is None


def test_a_closed_model_is_told_to_those_who_wait(gate: Gate) -> None:
    """Instead of leaving them waiting."""
    with BatchQueue(gate.model) as queue:
        queue.submit("a")
        assert gate.waiting.wait(10)
        waiting = queue.submit("b")
        gate.model.close()
        gate.open.set()
        with pytest.raises(RuntimeUnavailableError, match="found it closed"):
            waiting.result(10)

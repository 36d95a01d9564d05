"""The batcher: requests that share a batch share nothing else."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from tests.distill.weights import loud

from pocketseq_distill.decoder import Emission, OnToken
from pocketseq_distill.generation import Answer, Request, TeacherModel
from pocketseq_distill.serving.batcher import MAX_WAITING, Batcher

TEXTS = ["for name", "retur value", "while total"]


class Watched(TeacherModel):
    """A model that notes its batches, can be held before one, and chokes on a request or says other tokens where told."""

    def __init__(self, model: TeacherModel) -> None:
        super().__init__(model.model, model.tokenizer, model.card)
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.poison: Request | None = None
        self.choke_after = 0
        self.say: Callable[[int, int], int] = lambda _size, token: token

    def decode(self, requests: Sequence[Request], on_token: OnToken | None = None) -> list[Answer]:
        self.batches.append(len(requests))
        self.entered.set()
        assert self.gate.wait(30)
        said = 0

        def heard(row: int, token: int, logprob: float) -> bool:
            nonlocal said
            said += 1
            if self.poison in requests and said > self.choke_after:
                raise RuntimeError("choked")
            return on_token is None or on_token(row, self.say(len(requests), token), logprob)

        return super().decode(requests, heard)


@pytest.fixture
def model(plain_path: Path) -> Watched:
    model = TeacherModel.load(plain_path)
    loud(model.model)
    return Watched(model)


@pytest.fixture
def batcher(model: Watched) -> Iterator[Batcher]:
    with Batcher(model, max_batch=8, window_s=0.05) as batcher:
        yield batcher
        model.gate.set()


def requests_of(model: TeacherModel, *, max_new_tokens: int = 8) -> list[Request]:
    return [Request(model.encode(text), max_new_tokens) for text in TEXTS]


def test_requests_share_a_batch(model: Watched, batcher: Batcher) -> None:
    """Requests that come together are one batch, and each gets the answer that it would get alone."""
    jobs = batcher.submit_all(requests_of(model))
    texts = [job.future.result(30).text for job in jobs]
    assert model.batches == [3]
    assert texts == [model.answer([text], max_new_tokens=8)[0].text for text in TEXTS]


def test_a_batch_is_no_larger_than_allowed(model: Watched) -> None:
    """What does not fit waits for the next batch."""
    with Batcher(model, max_batch=2, window_s=0.05) as batcher:
        for job in batcher.submit_all(requests_of(model)):
            job.future.result(30)
    assert model.batches == [2, 1]


@pytest.mark.parametrize("choke_after", [0, 4])
def test_a_failing_request_does_not_fail_its_neighbours(model: Watched, batcher: Batcher, choke_after: int) -> None:
    """When a batch fails its requests are tried alone: only the one at fault fails, and no token is told twice."""
    requests = requests_of(model)
    expected = [model.answer([text], max_new_tokens=8)[0] for text in TEXTS]
    model.poison, model.choke_after, model.batches = requests[1], choke_after, []
    told: list[list[int]] = [[], [], []]
    jobs = batcher.submit_all(requests, lambda place, token, logprob: told[place].append(token))
    for place in (0, 2):
        assert jobs[place].future.result(30).text == expected[place].text
        assert told[place] == list(expected[place].tokens)
    with pytest.raises(RuntimeError, match="choked"):
        jobs[1].future.result(30)
    assert model.batches == [3, 1, 1, 1]


def test_an_answer_that_ends_sooner_alone(model: Watched, batcher: Batcher) -> None:
    """After a failed batch a request is answered by what it says alone, though it said more in company."""
    requests, end = requests_of(model), min(model.decoder.end_ids)
    model.poison, model.choke_after = requests[1], 7
    model.say = lambda size, token: 5 if size > 1 else end
    jobs = batcher.submit_all(requests)
    for place in (0, 2):
        answer = jobs[place].future.result(30)
        assert (answer.tokens, len(answer.token_logprobs), answer.finish_reason) == ((end,), 1, "stop")


def test_a_listener_is_not_told_two_answers(model: Watched, batcher: Batcher) -> None:
    """Where tokens were told before a batch failed, and alone the model says others, the request fails: nobody can unsay them."""
    requests, end = requests_of(model), min(model.decoder.end_ids)
    model.poison, model.choke_after = requests[1], 7
    model.say = lambda size, token: 5 if size > 1 else end
    told: list[list[int]] = [[], [], []]
    jobs = batcher.submit_all(requests, lambda place, token, logprob: told[place].append(token))
    for place in (0, 2):
        with pytest.raises(RuntimeError, match="expected the tokens that were told before the batch failed, found others"):
            jobs[place].future.result(30)
        assert set(told[place]) == {5}


def test_an_answer_that_cannot_be_read_at_first(model: Watched, batcher: Batcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose last token was told before its batch failed is answered all the same, and no token is told twice."""
    requests, failures = requests_of(model), [MemoryError()]
    read = model.read

    def stumbling(request: Request, emission: Emission) -> Answer:
        if failures:
            raise failures.pop()
        return read(request, emission)

    expected = [model.answer([text], max_new_tokens=8)[0].tokens for text in TEXTS]
    monkeypatch.setattr(model, "read", stumbling)
    told: list[list[int]] = [[], [], []]
    jobs = batcher.submit_all(requests, lambda place, token, logprob: told[place].append(token))
    assert [job.future.result(30).tokens for job in jobs] == expected == [tuple(tokens) for tokens in told]


def test_an_answer_does_not_wait_for_its_neighbours(model: Watched, batcher: Batcher) -> None:
    """A short answer is given while a long one of the same batch goes on."""
    short, long = Request(model.encode(TEXTS[0]), 1), Request(model.encode(TEXTS[1]), 8)
    order: list[int] = []
    jobs = batcher.submit_all([long, short], lambda place, token, logprob: order.append(place))
    jobs[1].future.add_done_callback(lambda _: order.append(-1))
    jobs[0].future.result(30)
    assert order.index(-1) < len(order) - 1


def test_a_cancelled_request_is_not_decoded(model: Watched, batcher: Batcher) -> None:
    """A request that is cancelled while it waits never reaches the model; one under way stops."""
    first, second, third = requests_of(model)
    model.gate.clear()
    (running,) = batcher.submit_all([first])
    assert model.entered.wait(30)
    waiting, other = batcher.submit_all([second, third])
    waiting.future.cancel()
    running.future.cancel()
    model.gate.set()
    assert other.future.result(30).text
    with pytest.raises(CancelledError):
        waiting.future.result(0)
    assert model.batches == [1, 1]
    assert len(running.emission.tokens) == 1


def test_too_many_waiting_requests_are_refused(model: Watched, batcher: Batcher) -> None:
    """Past the bound a request is refused at once, and none of its group stays behind."""
    request = Request(model.encode("index"), 1)
    model.gate.clear()
    batcher.submit_all([request])
    assert model.entered.wait(30)
    jobs = batcher.submit_all([request] * (MAX_WAITING - 1))
    with pytest.raises(queue.Full):
        batcher.submit_all([request] * 2)
    model.gate.set()
    for job in jobs:
        assert job.future.result(60).finish_reason in {"length", "stop"}
    assert sum(model.batches) == MAX_WAITING


def test_a_cancelled_request_takes_no_place(model: Watched, batcher: Batcher) -> None:
    """Who went away while a long batch was under way does not keep others out; every answer gives its place back as well."""
    request = Request(model.encode("index"), 1)
    model.gate.clear()
    (running,) = batcher.submit_all([request])
    assert model.entered.wait(30)
    for job in batcher.submit_all([request] * (MAX_WAITING - 1)):
        job.future.cancel()
    others = batcher.submit_all([request] * 2)
    model.gate.set()
    for job in (running, *others, *batcher.submit_all([request])):
        assert len(job.future.result(30).tokens) == 1
    assert len(batcher.submit_all([request] * (MAX_WAITING - 1))) == MAX_WAITING - 1


def test_closing_answers_what_waits(model: Watched) -> None:
    """Closing ends the thread after the requests that were taken are answered."""
    model.gate.clear()
    batcher = Batcher(model, max_batch=1)
    jobs = batcher.submit_all(requests_of(model))
    assert model.entered.wait(30)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    model.gate.set()
    closing.join(30)
    assert [job.future.done() for job in jobs] == [True, True, True]

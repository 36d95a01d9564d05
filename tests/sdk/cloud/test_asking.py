"""Asking again and giving up: retries, their quota, and how they share a deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from queue import SimpleQueue
from random import Random
from typing import Any

import pytest

from pocketseq.budget import Budget
from pocketseq.cloud import CloudEndpoint
from pocketseq.endpoint import Completion
from pocketseq.errors import (
    EndpointAuthError,
    EndpointError,
    EndpointRateLimitError,
    EndpointResponseError,
    EndpointServerError,
    EndpointUnavailableError,
)
from pocketseq.exchange import retry_after_s
from pocketseq.hybrid import Final, Hybrid
from pocketseq.hybrid.ask import Answer, Ask
from pocketseq.hybrid.cloud import Cloud
from pocketseq.hybrid.deadline import Deadline
from pocketseq.hybrid.ledger import Ledger, Reservation
from pocketseq.hybrid.retries import Backoff, RetryQuota
from pocketseq.policy import Policy
from pocketseq.privacy import prepare
from pocketseq.testing import FakeEndpoint, FakeModel, FakeStreamingEndpoint, Reply

UNSURE = {"confidence": 0.3, "threshold": 0.8}
PATIENT = Policy(deadline_ms=None, cache_size=0)


@pytest.mark.parametrize("failure", [EndpointServerError("500"), EndpointRateLimitError("429"), EndpointUnavailableError("down")])
def test_what_may_pass_is_asked_again(failure: EndpointError) -> None:
    """A failure that may pass is followed by another request, and the receipt shows both."""
    cloud = FakeEndpoint(failure, "cloud")
    suggestion = Hybrid(FakeModel("local", **UNSURE), cloud, PATIENT).suggest("text")
    assert suggestion.text == "cloud"
    assert [attempt.error for attempt in suggestion.receipt.attempts] == [type(failure).__name__, None]
    first, second = suggestion.receipt.attempts
    assert second.started_ms >= first.started_ms + first.latency_ms


@pytest.mark.parametrize("failure", [EndpointAuthError("401"), EndpointResponseError("x"), EndpointError("404", status=404)])
def test_what_will_not_pass_is_not_asked_again(failure: EndpointError) -> None:
    """A wrong key, garbage and an unknown path stay what they are."""
    cloud = FakeEndpoint(failure, "cloud")
    assert Hybrid(FakeModel("local", **UNSURE), cloud, PATIENT).suggest("text").text == "local"
    assert len(cloud.calls) == 1


@pytest.mark.parametrize(
    ("status", "requests"), [(408, 2), (409, 2), (429, 2), (500, 2), (503, 2), (400, 1), (401, 1), (404, 1), (422, 1)]
)
def test_statuses_that_are_asked_again(server: Any, status: int, requests: int) -> None:
    """408, 409, 429 and 5xx, as everybody does; and the receipt keeps the status."""
    server.answer({"error": {"message": "because"}}, status=status)
    with CloudEndpoint(server.url, model="m") as cloud:
        suggestion = Hybrid(FakeModel("local", **UNSURE), cloud, Policy(retries=1, deadline_ms=None)).suggest("text")
    assert len(server.seen) == requests
    assert [attempt.status for attempt in suggestion.receipt.attempts] == [status] * requests


def refuse_streams(server: Any, chat_answer: Callable[..., Any], *, status: int, message: str) -> None:
    """Let a server answer whole, and refuse whatever is asked as a stream."""

    def behave(handler: Any) -> None:
        if "stream_options" in server.seen[-1].json:
            server.answer({"error": {"message": message}}, status=status)
        else:
            server.answer(chat_answer("cloud"))
        answer, server.behave = server.behave, behave
        answer(handler)

    server.behave = behave


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Unrecognized request argument supplied: stream_options"),
        (422, "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options')}]"),
        (501, "Streaming is not implemented"),
    ],
)
def test_a_server_that_refuses_streams_is_asked_whole(
    server: Any, chat_answer: Callable[..., Any], status: int, message: str
) -> None:
    """No retry has to be left for it; receipt and budget count both requests, and no later question costs two."""
    refuse_streams(server, chat_answer, status=status, message=message)
    policy = Policy(deadline_ms=None, cache_size=0, retries=0, budget=Budget(requests_per_day=3))
    with CloudEndpoint(server.url, model="m") as cloud:
        hybrid = Hybrid(FakeModel("local", **UNSURE), cloud, policy)
        suggestion = asyncio.run(hybrid.asuggest("text"))
        *_, final = hybrid.stream("text")
        spent = hybrid.suggest("text")
    assert (suggestion.text, isinstance(final, Final) and final.suggestion.text) == ("cloud", "cloud")
    assert [attempt.status for attempt in suggestion.receipt.attempts] == [status, None]
    assert (len(server.seen), spent.receipt.error) == (3, "EndpointWithheldError")


@pytest.mark.parametrize(("status", "message"), [(400, "too long a prompt"), (404, "no such stream")])
def test_another_refusal_is_not_asked_again_whole(server: Any, chat_answer: Callable[..., Any], status: int, message: str) -> None:
    """What is wrong with the question or the path is wrong with both ways of asking."""
    refuse_streams(server, chat_answer, status=status, message=message)
    with CloudEndpoint(server.url, model="m") as cloud:
        suggestion = asyncio.run(Hybrid(FakeModel("local", **UNSURE), cloud, PATIENT).asuggest("text"))
    assert (suggestion.text, len(server.seen)) == ("local", 1)


def test_an_answer_that_had_begun_is_not_asked_for_again(server: Any) -> None:
    """After the first byte of an answer the request may have had its effect: no retry."""
    server.break_off()
    with CloudEndpoint(server.url, model="m") as cloud:
        Hybrid(FakeModel("local", **UNSURE), cloud, PATIENT).suggest("text")
    assert len(server.seen) == 1


def test_retry_after_is_heeded(server: Any) -> None:
    """The next request waits as long as the server asks, where the deadline allows it; else the local answer stands at once."""
    server.answer({"error": {"message": "busy"}}, status=429, **{"Retry-After": "0.2"})
    with CloudEndpoint(server.url, model="m") as cloud:
        hybrid = Hybrid(FakeModel("local", **UNSURE), cloud, Policy(retries=1, deadline_ms=60_000, cache_size=0))
        first, second = hybrid.suggest("text").receipt.attempts
        assert second.started_ms - first.started_ms >= 200
        server.answer({"error": {"message": "busy"}}, status=429, **{"Retry-After": "60"})
        hurried = hybrid.suggest("text", deadline_ms=30_000)
    assert len(hurried.receipt.attempts) == 1
    assert hurried.receipt.error == "EndpointRateLimitError"
    assert hurried.receipt.total_ms < 30_000


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": formatdate(0, usegmt=True)}, 0.0),
        ({}, None),
    ],
)
def test_reading_retry_after(headers: dict[str, str], expected: float | None) -> None:
    """Seconds, milliseconds or a date; nonsense is no wish at all."""
    assert retry_after_s(headers) == expected


def test_a_date_is_as_far_as_it_is() -> None:
    """A date of an hour ahead is an hour."""
    found = retry_after_s({"retry-after": formatdate(time.time() + 3600, usegmt=True)})
    assert found is not None
    assert 3590 < found <= 3600


@pytest.mark.parametrize("skew_s", [-400 * 86400, 0, 400 * 86400])
def test_a_date_is_held_against_the_clock_of_who_sent_it(skew_s: int) -> None:
    """Where the server says what time it is, a device whose clock is wrong by a year waits no longer than it is asked to."""
    now_s = time.time() + skew_s
    assert retry_after_s({"retry-after": formatdate(now_s + 9, usegmt=True), "date": formatdate(now_s, usegmt=True)}) == 9


def test_waits_grow_with_full_jitter() -> None:
    """Each wait is anywhere from 0 to a bound that doubles up to the cap; a server's wish is never undercut."""
    backoff, random = Backoff(base_s=0.1, cap_s=0.5), Random(0)
    for retry, bound in enumerate([0.1, 0.2, 0.4, 0.5, 0.5]):
        waits = [backoff.wait_s(retry, retry_after_s=None, random=random) for _ in range(500)]
        assert 0 <= min(waits) < 0.1 * bound
        assert 0.9 * bound < max(waits) <= bound
    asked = [backoff.wait_s(0, retry_after_s=3, random=random) for _ in range(100)]
    assert 3 <= min(asked) <= max(asked) <= 3.1


def test_retries_are_paid_from_a_quota() -> None:
    """Retries that fail empty the bucket; one that succeeds brings its token back, a first attempt a part of one."""
    quota = RetryQuota(capacity=2, refund=0.5)
    assert [quota.take() for _ in range(3)] == [True, True, False]
    quota.succeeded(retry=False)
    assert not quota.take()
    quota.succeeded(retry=False)
    assert quota.take()
    quota.succeeded(retry=True)
    assert quota.take()
    for _ in range(50):
        quota.succeeded(retry=True)
    assert [quota.take() for _ in range(3)] == [True, True, False]


def test_too_many_questions_at_once_are_refused() -> None:
    """An endpoint that never returns cannot take threads without end; on a busy machine some deadlines pass before it is asked."""
    over = threading.Event()

    class Deaf(FakeEndpoint):
        def complete(self, prompt: str, **_: object) -> Completion:
            over.wait(60)
            return super().complete(prompt)

    hybrid = Hybrid(FakeModel("local", **UNSURE), Deaf("late"), Policy(deadline_ms=20, mode="prefer_cloud", cache_size=0))
    reasons = [hybrid.suggest("text").reason]
    while "fewer than 32 questions under way" not in reasons[-1] and len(reasons) < 200:
        reasons.append(hybrid.suggest("text").reason)
    over.set()
    assert 32 < len(reasons) < 200


def test_a_system_without_threads_loses_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started nothing is sent, and the local answer stands."""

    class NoThread:
        def __init__(self, **_: object) -> None:
            pass

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    hybrid = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint("cloud"), PATIENT)
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", NoThread)
        for _ in range(40):  # more than may be under way: no place is lost
            suggestion = hybrid.suggest("text")
            assert "found that the system has none left; nothing was sent" in suggestion.reason
    assert hybrid.suggest("text").text == "cloud"


def test_an_offline_machine_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a route out of the machine no connection is tried, and the reason says that it is offline."""
    monkeypatch.setattr("pocketseq.cloud.is_offline", lambda: True)
    with CloudEndpoint("https://llm.example.com/v1", model="m") as cloud:
        suggestion = Hybrid(FakeModel("local", **UNSURE), cloud, PATIENT).suggest("text")
    assert "found this machine offline" in suggestion.reason
    assert (suggestion.text, suggestion.receipt.bytes_sent, suggestion.receipt.error) == ("local", 0, "EndpointOfflineError")


def test_a_slow_answer_after_failures_is_given_up_at_the_deadline() -> None:
    """Retries and waits are paid out of the one deadline."""
    cloud = FakeEndpoint(EndpointServerError("500"), Reply("late", delay_s=60))
    suggestion = Hybrid(FakeModel("local", **UNSURE), cloud, Policy(deadline_ms=300), random=Random(1)).suggest("text")
    assert suggestion.text == "local"
    assert [attempt.error for attempt in suggestion.receipt.attempts] == ["EndpointServerError", "EndpointTimeoutError"]
    assert cloud.calls[1].deadline_s is not None
    assert cloud.calls[1].deadline_s < 0.3


class SlowLedger(Ledger):
    """Counts in a file on a disk that takes its time."""

    def __init__(self) -> None:
        super().__init__(Budget(requests_per_hour=1))
        self.counted, self.written = threading.Event(), threading.Event()

    def reserve(self, expected: Reservation) -> str | None:
        full = super().reserve(expected)
        self.counted.set()
        self.written.wait(30)
        return full


@pytest.mark.parametrize("endpoint", [FakeEndpoint, FakeStreamingEndpoint])
@pytest.mark.parametrize("stop", [Ask.take_back, Ask.give_up])
def test_a_question_that_is_stopped_while_its_request_is_counted_is_not_asked(
    endpoint: type[FakeEndpoint], stop: Callable[[Ask], Answer]
) -> None:
    """The receipt says that nothing left, and so it is; the budget gets its place back."""
    cloud = Cloud(endpoint("cloud"), retries=0, max_tokens=None, price=None, ledger=(ledger := SlowLedger()))
    outgoing = prepare(FakeModel("").template, {"text": "some text"}, detectors=())
    ends: SimpleQueue[Answer] = SimpleQueue()
    ask = cloud.ask(lambda: outgoing, Deadline.after(None), on_end=ends.put)
    assert ledger.counted.wait(30)
    answer = stop(ask)
    ledger.written.set()
    assert ends.get(timeout=30).attempts == answer.attempts == ()
    assert cloud.endpoint.calls == []
    assert ledger.usage()["hour"].requests == 0

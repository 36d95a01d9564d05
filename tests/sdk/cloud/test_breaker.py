"""The circuit breaker: an endpoint that keeps failing is left alone, and probed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pocketseq.errors import (
    EndpointAuthError,
    EndpointError,
    EndpointOfflineError,
    EndpointRefusalError,
    EndpointServerError,
    EndpointTimeoutError,
    EndpointWithheldError,
)
from pocketseq.hybrid import Hybrid
from pocketseq.hybrid.breaker import Breaker, Verdict, verdict
from pocketseq.policy import Policy
from pocketseq.testing import FakeEndpoint, FakeModel


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_probes_and_closes() -> None:
    """Failures in a row open it; after its rest one probe goes through, and its success closes it."""
    clock = Clock()
    breaker = Breaker(failures=3, rest_s=10, clock=clock)
    for _ in range(3):
        assert breaker.admit() == 0
        breaker.report(Verdict.ILL)
    assert breaker.admit() == 10
    clock.now = 10
    assert breaker.admit() == 0
    assert breaker.admit() > 0  # only one probe
    breaker.report(Verdict.WELL)
    assert [breaker.admit(), breaker.admit()] == [0, 0]


def test_a_failed_probe_makes_the_rest_longer() -> None:
    """Twice as long each time, up to a bound."""
    clock = Clock()
    breaker = Breaker(failures=1, rest_s=10, longest_rest_s=35, clock=clock)
    breaker.admit()
    breaker.report(Verdict.ILL)
    for rest in (20, 35, 35):
        clock.now += breaker.admit()
        assert breaker.admit() == 0
        breaker.report(Verdict.ILL)
        assert breaker.admit() == rest


def test_a_straggler_does_not_end_the_probe() -> None:
    """A request from before it opened tells nothing of the one that probes: no second probe goes beside it."""
    clock = Clock()
    breaker = Breaker(failures=1, rest_s=10, clock=clock)
    with ThreadPoolExecutor(1) as straggler:
        assert straggler.submit(breaker.admit).result() == 0
        breaker.admit()
        breaker.report(Verdict.ILL)
        clock.now += 10
        assert breaker.admit() == 0
        straggler.submit(breaker.report, Verdict.ILL).result()
        assert breaker.admit() > 0


def test_success_between_failures_keeps_a_breaker_closed() -> None:
    """Only failures in a row count, and what says nothing of the endpoint counts for nothing."""
    breaker = Breaker(failures=2)
    for found in (Verdict.ILL, Verdict.WELL, Verdict.ILL, Verdict.UNKNOWN):
        assert breaker.admit() == 0
        breaker.report(found)
    assert breaker.admit() == 0


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    """A probe that was taken back lets the next one through."""
    clock = Clock()
    breaker = Breaker(failures=1, rest_s=1, clock=clock)
    breaker.admit()
    breaker.report(Verdict.ILL)
    clock.now = 1
    assert breaker.admit() == 0
    breaker.report(Verdict.UNKNOWN)
    assert breaker.admit() == 0


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (None, Verdict.WELL),
        (EndpointRefusalError("x"), Verdict.WELL),
        (EndpointTimeoutError("x"), Verdict.ILL),
        (EndpointAuthError("x", status=401), Verdict.ILL),
        (EndpointError("x", status=404, retryable=False), Verdict.UNKNOWN),
        (EndpointError("x", status=409, retryable=True), Verdict.ILL),
        (EndpointError("raised"), Verdict.ILL),
        (EndpointWithheldError("x"), Verdict.UNKNOWN),
        (EndpointOfflineError("x"), Verdict.UNKNOWN),
    ],
)
def test_what_an_error_says_of_an_endpoint(error: EndpointError | None, found: Verdict) -> None:
    """A request that is itself wrong, or never went out, says nothing; a model that declines is up."""
    assert verdict(error) is found


def test_an_endpoint_that_keeps_failing_is_left_alone() -> None:
    """After failures in a row nothing is sent for a while, and the reason says so."""
    cloud = FakeEndpoint(EndpointServerError("500"))
    hybrid = Hybrid(FakeModel("local", confidence=0.3, threshold=0.8), cloud, Policy(retries=0, cache_size=0))
    suggestions = [hybrid.suggest("text") for _ in range(8)]
    assert len(cloud.calls) == 5
    assert {suggestion.text for suggestion in suggestions} == {"local"}
    assert "is left alone for another" in suggestions[-1].reason
    assert (suggestions[-1].receipt.error, suggestions[-1].receipt.sent) == ("EndpointWithheldError", None)
    with pytest.raises(EndpointWithheldError):
        hybrid.suggest("text", mode="only_cloud")

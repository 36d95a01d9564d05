"""A bad network before an endpoint, on a clock that only waiting moves."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pocketseq.errors import EndpointTimeoutError, EndpointUnavailableError
from pocketseq.testing import FakeEndpoint, Network, NetworkEndpoint, Outage, SimulatedClock


def behind(network: Network, *, seed: int = 0) -> tuple[NetworkEndpoint, SimulatedClock, FakeEndpoint]:
    clock, cloud = SimulatedClock(), FakeEndpoint("answer")
    return NetworkEndpoint(cloud, network, clock=clock, wait=clock.wait, seed=seed), clock, cloud


def test_latency_is_added_and_counted() -> None:
    """The answer comes later by it, and the completion says so; no real time passes."""
    endpoint, clock, _ = behind(Network(latency_ms=10_000, spread=0.0))
    completion = endpoint.complete("x")
    assert completion.text == "answer"
    assert clock() == 10.0
    assert completion.latency_ms >= 10_000
    assert endpoint.url == FakeEndpoint.url


def test_an_answer_after_the_deadline_is_none() -> None:
    """The caller waits until the deadline and no longer; what was sent is counted."""
    endpoint, clock, cloud = behind(Network(latency_ms=2_000, spread=0.0))
    with pytest.raises(EndpointTimeoutError, match="expected an answer within 500 ms, found none") as caught:
        endpoint.complete("four", deadline_s=0.5)
    assert clock() == 0.5
    assert caught.value.request_bytes == 4
    assert cloud.calls == []


def test_what_latency_leaves_of_the_deadline_is_the_endpoints() -> None:
    """The endpoint behind gets the rest."""
    endpoint, _, cloud = behind(Network(latency_ms=300, spread=0.0))
    endpoint.complete("x", deadline_s=0.8)
    assert cloud.calls[0].deadline_s == pytest.approx(0.5)


def test_a_share_of_the_requests_is_lost() -> None:
    """Each loss costs the whole patience."""
    endpoint, clock, cloud = behind(Network(loss=0.5), seed=3)
    lost = 0
    for _ in range(200):
        try:
            endpoint.complete("x", deadline_s=1.0)
        except EndpointTimeoutError:
            lost += 1
    assert 70 <= lost <= 130
    assert clock() == pytest.approx(lost)
    assert len(cloud.calls) == 200 - lost


def test_in_an_outage_connections_are_refused_at_once() -> None:
    """And after it they are not."""
    endpoint, clock, _ = behind(Network(outages=(Outage(5, 8),)))
    endpoint.complete("x")
    clock.wait(6)
    with pytest.raises(EndpointUnavailableError, match="found the network down"):
        endpoint.complete("x")
    assert clock() == 6
    clock.wait(2)
    assert endpoint.complete("x").text == "answer"


def test_latencies_vary_around_the_median_the_same_in_every_run() -> None:
    """Log-normal, by seed."""

    def draws(seed: int) -> list[float]:
        endpoint, clock, _ = behind(Network(latency_ms=100, spread=0.3), seed=seed)
        times = [0.0]
        for _ in range(201):
            endpoint.complete("x")
            times.append(clock())
        return [later - sooner for sooner, later in pairwise(times)]

    assert draws(1) == draws(1) != draws(2)
    assert 0.09 < sorted(draws(1))[100] < 0.11

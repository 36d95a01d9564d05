"""Time as a hybrid knows it: one clock that can be given, and a wall clock that may jump."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketseq.budget import Budget
from pocketseq.errors import EndpointServerError, EndpointTimeoutError
from pocketseq.hybrid import Hybrid
from pocketseq.policy import Policy
from pocketseq.testing import FakeEndpoint, FakeModel, Network, NetworkEndpoint, SimulatedClock

UNSURE = {"confidence": 0.3, "threshold": 0.8}
ONCE = Policy(retries=0, cache_size=0, deadline_ms=1000)


def test_a_breaker_rests_on_the_clock_that_was_given() -> None:
    """After failures in a row nothing is sent until the rest is over on that clock, however little real time has passed."""
    clock, cloud = SimulatedClock(), FakeEndpoint(*[EndpointServerError("500")] * 5, "cloud")
    hybrid = Hybrid(FakeModel("local", **UNSURE), cloud, ONCE, clock=clock)
    for _ in range(7):
        assert hybrid.suggest("text").text == "local"
    assert len(cloud.calls) == 5
    clock.wait(4.9)
    assert hybrid.suggest("text").receipt.error == "EndpointWithheldError"
    clock.wait(0.2)
    assert hybrid.suggest("text").text == "cloud"


def test_a_deadline_passes_on_the_clock_that_was_given() -> None:
    """A network that is slow on a simulated clock is too slow for a deadline on it, and takes no real time."""
    clock = SimulatedClock()
    for latency_ms, source in ((200.0, "cloud"), (5000.0, "local")):
        network = NetworkEndpoint(FakeEndpoint("cloud"), Network(latency_ms=latency_ms, spread=0.0), clock=clock, wait=clock.wait)
        suggestion = Hybrid(FakeModel("local", **UNSURE), network, ONCE, clock=clock).suggest("text")
        assert suggestion.source == source
        assert suggestion.receipt.total_ms == pytest.approx(min(latency_ms, 1000.0))
    assert suggestion.receipt.error == EndpointTimeoutError.__name__


def test_the_windows_of_a_budget_end_on_the_clock_that_was_given() -> None:
    """An hour of that clock gives an hour's budget back; the wall clock may jump meanwhile and gives nothing."""
    clock, wall = SimulatedClock(), SimulatedClock()
    policy = Policy(budget=Budget(requests_per_hour=1), cache_size=0)
    hybrid = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint("cloud"), policy, clock=clock, wall=wall)
    assert hybrid.suggest("text").source == "cloud"
    wall.wait(1e6)
    assert hybrid.suggest("text").source == "local"
    clock.wait(3600)
    assert hybrid.suggest("text").source == "cloud"


@pytest.mark.parametrize(("jump_s", "asks"), [(-7 * 86400, False), (-60, False), (0, False), (60, False), (3601, True)])
def test_a_restart_reads_a_budget_by_the_wall_clock(tmp_path: Path, jump_s: float, asks: bool) -> None:
    """A wall clock that was set back or a little forward over a restart gives no budget back; an hour forward ends the hour."""
    policy = Policy(budget=Budget(requests_per_hour=1, file=tmp_path / "budget.json"), cache_size=0)
    model, cloud = FakeModel("local", **UNSURE), FakeEndpoint("cloud")
    assert Hybrid(model, cloud, policy, wall=lambda: 1e9).suggest("text").source == "cloud"
    suggestion = Hybrid(model, cloud, policy, wall=lambda: 1e9 + jump_s).suggest("text")
    assert (suggestion.source == "cloud") is asks

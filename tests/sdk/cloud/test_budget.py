"""Budgets: what is counted, when it is enough, and that neither a restart nor a clock gives it back."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pocketseq.budget import Budget, Price
from pocketseq.errors import EndpointServerError, EndpointUnavailableError, EndpointWithheldError, PolicyError
from pocketseq.hybrid import Hybrid
from pocketseq.hybrid.ledger import Ledger, Reservation
from pocketseq.policy import Policy
from pocketseq.testing import FakeEndpoint, FakeModel, Reply

UNSURE = {"confidence": 0.3, "threshold": 0.8}
ONE = Reservation(tokens=10, cost=0.5)


class Times:
    """A wall clock that can be set, and a steady one."""

    wall_s = 1_000_000.0
    steady_s = 0.0

    def ledger(self, budget: Budget) -> Ledger:
        return Ledger(budget, clock=lambda: self.steady_s, wall=lambda: self.wall_s)

    def pass_(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds


def refused(ledger: Ledger) -> str | None:
    """Count another request; the limit in words, where there is no room for it."""
    found = ledger.reserve(ONE)
    return found if isinstance(found, str) else None


def reserved(ledger: Ledger) -> Reservation:
    found = ledger.reserve(ONE)
    assert isinstance(found, Reservation)
    return found


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.mark.parametrize(
    ("limits", "fits", "words"),
    [
        ({"requests_per_hour": 3}, 3, "3 requests per hour"),
        ({"requests_per_day": 2}, 2, "2 requests per day"),
        ({"tokens_per_hour": 45}, 4, "45 tokens per hour"),
        ({"cost_per_day": 1.2}, 2, "1.2 cost per day"),
        ({"requests_per_hour": 0}, 0, "0 requests per hour"),
    ],
)
def test_a_limit_is_never_exceeded(times: Times, limits: Any, fits: int, words: str) -> None:
    """As many requests are counted as fit; the next is refused with the limit in words, and not counted."""
    ledger = times.ledger(Budget(**limits))
    assert [refused(ledger) for _ in range(fits + 2)] == [None] * fits + [words] * 2
    assert ledger.usage()["hour"].requests == fits


def test_a_window_ends(times: Times) -> None:
    """After an hour the hour's budget is whole again, the day's is not."""
    ledger = times.ledger(Budget(requests_per_hour=1, requests_per_day=2))
    assert refused(ledger) is None
    times.pass_(3599)
    assert refused(ledger) == "1 requests per hour"
    times.pass_(1)
    assert refused(ledger) is None
    times.pass_(3600)
    assert refused(ledger) == "2 requests per day"
    times.pass_(86400)
    assert refused(ledger) is None


def test_what_was_reserved_before_a_window_ended_is_not_taken_off_the_next(times: Times) -> None:
    """It is no part of that one: a request that never left gives back its place in the day alone."""
    ledger = times.ledger(Budget(requests_per_hour=2))
    before = reserved(ledger)
    times.pass_(3600)
    assert [refused(ledger) for _ in range(3)] == [None, None, "2 requests per hour"]
    ledger.settle(before, Reservation(requests=0, tokens=0, cost=0.0))
    assert refused(ledger) == "2 requests per hour"
    assert (ledger.usage()["hour"].requests, ledger.usage()["day"].requests) == (2, 2)


def test_use_takes_the_place_of_what_was_expected(times: Times) -> None:
    """Settling corrects the count; what was never sent is taken back whole."""
    ledger = times.ledger(Budget(tokens_per_hour=100))
    ledger.settle(reserved(ledger), Reservation(tokens=90, cost=2.0))
    assert (ledger.usage()["hour"].tokens, ledger.usage()["day"].cost) == (90, 2.0)
    ledger.settle(reserved(ledger), Reservation(requests=0, tokens=0, cost=0.0))
    assert (ledger.usage()["hour"].requests, ledger.usage()["hour"].tokens) == (1, 90)


def test_a_restart_gives_nothing_back(times: Times, tmp_path: Path) -> None:
    """The count is in the file after each request, whole JSON with nothing beside it."""
    budget = Budget(requests_per_day=2, file=tmp_path / "state" / "budget.json")
    for left in (None, None, "2 requests per day"):
        assert refused(times.ledger(budget)) == left
        times.pass_(60)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["budget.json"]
    assert json.loads((tmp_path / "state" / "budget.json").read_text())["day"]["requests"] == 2


def test_two_processes_share_a_file(times: Times, tmp_path: Path) -> None:
    """What another process counted meanwhile is heard."""
    budget = Budget(requests_per_day=3, file=tmp_path / "budget.json")
    one, other = times.ledger(budget), times.ledger(budget)
    assert [refused(one), refused(other), refused(one)] == [None, None, None]
    assert refused(other) == "3 requests per day"


@pytest.mark.parametrize("jump_s", [-10 * 86400, -3600, -1, 86400 * 365])
def test_setting_the_clock_changes_nothing_in_a_process(times: Times, jump_s: float) -> None:
    """However far the wall clock jumps, forward or back."""
    ledger = times.ledger(Budget(requests_per_hour=1))
    refused(ledger)
    times.wall_s += jump_s
    assert refused(ledger) == "1 requests per hour"
    times.steady_s += 3600
    assert refused(ledger) is None


def test_a_clock_set_back_over_a_restart_neither_frees_nor_locks(times: Times, tmp_path: Path) -> None:
    """A window that would begin in the future begins now, with what it has used, and ends a window later."""
    budget = Budget(requests_per_hour=1, file=tmp_path / "budget.json")
    refused(times.ledger(budget))
    times.wall_s -= 30 * 86400
    ledger = times.ledger(budget)
    assert refused(ledger) == "1 requests per hour"
    times.pass_(3600)
    assert refused(ledger) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"hour": {}}',
        '{"hour": {"started_s": "x"}}',
        '{"day": {"started_s": -1}}',
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_broken_file_is_counted_anew_and_told_once(
    times: Times, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Suggestions do not fail for it."""
    file = tmp_path / "budget.json"
    file.write_text(content)
    ledger = times.ledger(Budget(requests_per_hour=1, file=file))
    with caplog.at_level(logging.WARNING):
        assert [refused(ledger), refused(ledger)] == [None, "1 requests per hour"]
    assert len(caplog.records) == 1
    assert "expected the count of a budget" in caplog.text


def test_a_file_that_cannot_be_written_is_told_once(times: Times, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The count goes on in memory."""
    (tmp_path / "file").write_text("")
    ledger = times.ledger(Budget(requests_per_hour=2, file=tmp_path / "file" / "budget.json"))
    with caplog.at_level(logging.WARNING):
        assert [refused(ledger) for _ in range(3)] == [None, None, "2 requests per hour"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", [None, "budget.json"])
def test_threads_count_each_request_once(times: Times, tmp_path: Path, name: str | None) -> None:
    """Many threads together get as many requests as fit, also where several ledgers share a file."""
    budget = Budget(requests_per_hour=50, file=None if name is None else tmp_path / name)
    ledgers = [times.ledger(budget)] * 2 if name is None else [times.ledger(budget), times.ledger(budget)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: refused(ledgers[number % 2]), range(100)))
    assert answers.count(None) == 50


def test_a_spent_budget_degrades_to_the_local_answer() -> None:
    """The cloud is asked until the budget is spent; then the local answer stands and says so."""
    cloud = FakeEndpoint("cloud")
    hybrid = Hybrid(FakeModel("local", **UNSURE), cloud, Policy(budget=Budget(requests_per_hour=1), cache_size=0))
    assert [hybrid.suggest("text").text for _ in range(2)] == ["cloud", "local"]
    spent = hybrid.suggest("text")
    assert "the budget of 1 requests per hour has no room" in spent.reason
    assert (spent.receipt.error, spent.receipt.attempts) == ("EndpointWithheldError", ())
    with pytest.raises(EndpointWithheldError):
        hybrid.suggest("text", mode="only_cloud")
    assert len(cloud.calls) == 1


def test_retries_are_requests() -> None:
    """Each attempt is counted, and a retry that does not fit is not made."""
    cloud = FakeEndpoint(EndpointServerError("500", status=500))
    policy = Policy(budget=Budget(requests_per_hour=2), deadline_ms=None)
    assert Hybrid(FakeModel("local", **UNSURE), cloud, policy).suggest("text").text == "local"
    assert len(cloud.calls) == 2


def test_what_never_left_costs_nothing() -> None:
    """A refused connection uses no budget."""
    cloud = FakeEndpoint(EndpointUnavailableError("down"))
    policy = Policy(budget=Budget(requests_per_hour=1), retries=0, cache_size=0)
    hybrid = Hybrid(FakeModel("local", **UNSURE), cloud, policy)
    for _ in range(3):
        hybrid.suggest("text")
    assert len(cloud.calls) == 3


def test_receipts_carry_the_cost() -> None:
    """By the endpoint's own counts where it gives them."""
    price = Price(per_million_prompt_tokens=1.0, per_million_completion_tokens=10.0)
    suggestion = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint("one two"), Policy(price=price)).suggest("some text")
    receipt = suggestion.receipt
    assert receipt.prompt_tokens is not None
    assert receipt.cost == pytest.approx((receipt.prompt_tokens + 10 * 2) / 1_000_000)


def test_an_answer_that_was_given_up_is_charged_by_estimate() -> None:
    """The endpoint may have worked for it, though nobody heard: better too much in the receipt and the count than too little."""
    policy = Policy(price=Price(1.0, 1.0), max_tokens=100, deadline_ms=50)
    receipt = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint(Reply("late", delay_s=60)), policy).suggest("some text").receipt
    assert receipt.cost == pytest.approx((9 // 3 + 1 + 100) / 1_000_000)


def test_money_needs_a_price() -> None:
    """A limit on cost without a price would never be reached: it is refused."""
    with pytest.raises(PolicyError, match="price: expected what the endpoint charges"):
        Policy(budget=Budget(cost_per_day=1.0))


@pytest.mark.parametrize(
    "make", [lambda: Budget(requests_per_hour=-1), lambda: Price(-1, 0), lambda: Budget(cost_per_day=float("nan"))]
)
def test_numbers_out_of_range_are_refused(make: Any) -> None:
    """Negative limits and prices, and what is no number."""
    with pytest.raises(PolicyError, match="expected 0 or more"):
        make()

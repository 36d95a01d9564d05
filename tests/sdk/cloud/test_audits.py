"""Audits and feedback: whether the promise still holds, and what users make of suggestions."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from pocketseq.errors import EndpointServerError, PolicyError
from pocketseq.hybrid import Acceptance, Drift, Hybrid
from pocketseq.policy import Policy
from pocketseq.privacy import Finding
from pocketseq.testing import FakeEndpoint, FakeModel, SimulatedClock
from pocketseq.testing.model import FixedThreshold

SURE = {"confidence": 0.9, "threshold": 0.8}
UNSURE = {"confidence": 0.3, "threshold": 0.8}


def run(drift: Drift, rate: float, audits: int, random: Random) -> Drift:
    for _ in range(audits):
        drift = drift.after(loss=float(random.random() < rate))
        if drift.alarmed:
            break
    return drift


def test_false_alarms_keep_their_rate() -> None:
    """While the promise just holds, at most a share delta of the tests ever raises the alarm, looked at after each audit."""
    random = Random(0)
    alarms = sum(run(Drift(risk=0.1, delta=0.05), 0.1, 1000, random).alarmed for _ in range(200))
    assert alarms <= 16  # 10 would be expected at the worst; more than 16 of 200 has probability 1.5%


@pytest.mark.parametrize(("rate", "within"), [(0.2, 400), (0.3, 150), (0.6, 40)])
def test_a_broken_promise_is_found(rate: float, within: int) -> None:
    """The more is wrong, the sooner."""
    random = Random(1)
    found = [run(Drift(risk=0.1, delta=0.05), rate, 2000, random) for _ in range(50)]
    assert all(drift.alarmed for drift in found)
    assert sorted(drift.audits for drift in found)[25] <= within


def test_the_capital_by_hand() -> None:
    """One difference multiplies each stake's capital by 1 + stake/risk·(1 − risk); the evidence is their mean."""
    stakes = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
    drift = Drift(risk=0.25, delta=0.05).after(loss=1.0)
    assert drift.evidence == pytest.approx(sum(1 + stake / 0.25 * 0.75 for stake in stakes) / 6)
    after = drift.after(loss=0.0)
    assert (after.audits, after.differing, after.evidence) == (2, 1, drift.evidence)
    half = Drift(risk=0.25, delta=0.05).after(loss=0.5)
    assert half.evidence == pytest.approx(sum(1 + stake for stake in stakes) / 6)
    assert (half.differing, half.lost) == (1, 0.5)


def audited(model: FakeModel, cloud: FakeEndpoint, share: float = 1.0, **more: Any) -> Hybrid:
    return Hybrid(model, cloud, Policy(audit=share, cache_size=0), random=Random(0), **more)


def settle(hybrid: Hybrid, audits: int) -> Drift:
    """Wait for audits to be counted: they run beside the calls."""
    import time

    until = time.monotonic() + 30
    while (drift := hybrid.drift) and drift.audits < audits and time.monotonic() < until:
        time.sleep(0.001)
    assert drift is not None
    return drift


@pytest.mark.parametrize(("confidence", "audits"), [(0.9, True), (0.8, True), (0.6, False)])
def test_answers_below_the_calibrated_threshold_say_nothing_of_its_promise(confidence: float, *, audits: bool) -> None:
    """A policy may serve what the calibration would not; the promise is held to none of it."""
    model, cloud = FakeModel("local", confidence=confidence, threshold=0.8), FakeEndpoint("other")
    hybrid = Hybrid(model, cloud, Policy(audit=1.0, threshold=0.5, cache_size=0), random=Random(0))
    suggestion = hybrid.suggest("some text")
    assert (suggestion.source, suggestion.receipt.audited) == ("local", audits)


def test_confident_answers_are_audited() -> None:
    """The local answer is served at once; the receipt says that, and what, also leaves for an audit."""
    cloud = FakeEndpoint("local")
    suggestion = (hybrid := audited(FakeModel("local", **SURE), cloud)).suggest("some text")
    receipt = suggestion.receipt
    assert (suggestion.source, receipt.audited, receipt.sent, receipt.endpoint) == ("local", True, "some text", cloud.url)
    drift = settle(hybrid, 1)
    assert (drift.audits, drift.differing) == (1, 0)


def test_audits_are_redacted() -> None:
    """What leaves for an audit goes through the same filters."""
    cloud = FakeEndpoint("local")
    receipt = (hybrid := audited(FakeModel("local", **SURE), cloud)).suggest("x@example.org").receipt
    settle(hybrid, 1)
    assert (cloud.calls[0].prompt, receipt.sent) == ("<EMAIL_1>", "<EMAIL_1>")
    assert [item.kind for item in receipt.redacted] == ["email"]


def test_detectors_of_an_audit_do_not_hold_the_answer_up() -> None:
    """The answer is served at its deadline; what they had not read by then does not leave, for no receipt could tell."""
    reading, over = threading.Event(), threading.Event()

    def slow(text: str) -> tuple[Finding, ...]:
        reading.set()
        over.wait(30)
        return ()

    cloud = FakeEndpoint("local")
    hybrid = Hybrid(FakeModel("local", **SURE), cloud, Policy(audit=1.0, deadline_ms=100), detectors=[slow])
    suggestion = hybrid.suggest("some text")
    assert reading.wait(30)
    assert not over.is_set()
    assert (suggestion.text, suggestion.receipt.audited, suggestion.receipt.sent) == ("local", False, None)
    over.set()
    for thread in threading.enumerate():
        if thread.name == "pocketseq-ask":
            thread.join(30)
    assert cloud.calls == []


def test_the_receipt_counts_what_was_waited_for_detectors() -> None:
    """The user waited for them before the answer was there."""
    clock = SimulatedClock()

    def slow(text: str) -> tuple[Finding, ...]:
        clock.wait(0.05)
        return ()

    hybrid = audited(FakeModel("local", **SURE), FakeEndpoint("local"), detectors=[slow], clock=clock)
    assert hybrid.suggest("some text", deadline_ms=10_000).receipt.total_ms == pytest.approx(50)


def test_what_may_not_leave_is_not_audited() -> None:
    """Where a detector fails the receipt tells of no audit, and there is none."""

    def broken(text: str) -> tuple[Finding, ...]:
        raise ValueError(text)

    cloud = FakeEndpoint("local")
    hybrid = audited(FakeModel("local", **SURE), cloud, detectors=[broken])
    assert (hybrid.suggest("some text").receipt.audited, cloud.calls) == (False, [])


def test_only_a_share_is_audited() -> None:
    """By chance, as large as the policy says; none unless it says so."""
    cloud = FakeEndpoint("local")
    hybrid = audited(FakeModel("local", **SURE), cloud, share=0.2)
    sent = sum(hybrid.suggest(f"text {number}").receipt.audited for number in range(300))
    assert 30 <= sent <= 90
    assert not any(Hybrid(FakeModel("local", **SURE), cloud).suggest(f"{number}").receipt.audited for number in range(50))


@pytest.mark.parametrize("mode", ["only_local", "prefer_cloud", "only_cloud"])
def test_other_answers_are_not_audited(mode: Any) -> None:
    """Only an answer that was served for its confidence says anything of the promise; only_local never sends."""
    cloud = FakeEndpoint("cloud")
    assert not audited(FakeModel("local", **SURE), cloud).suggest("text", mode=mode).receipt.audited
    assert not audited(FakeModel("local", **UNSURE), cloud).suggest("text").receipt.audited


def test_an_alarm_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """When differences are too many for the promise a warning says so, without any text."""
    hybrid = audited(FakeModel("local", **SURE), FakeEndpoint("other"))
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            hybrid.suggest(f"text {number}")
            drift = settle(hybrid, number + 1)
    assert drift.alarmed
    assert len(caplog.records) == 1
    assert "the promised risk looks broken; calibrate again" in caplog.text
    assert "text" not in caplog.text


def test_an_audit_that_fails_says_nothing() -> None:
    """A cloud that does not answer is no difference."""
    cloud = FakeEndpoint(EndpointServerError("x", retryable=False), "local")
    hybrid = audited(FakeModel("local", **SURE), cloud)
    hybrid.suggest("one")
    hybrid.suggest("two")
    assert settle(hybrid, 1).differing == 0


def test_nothing_to_audit_without_a_promise() -> None:
    """A model without a calibration promises nothing: the policy is refused where the hybrid is made."""
    with pytest.raises(PolicyError, match="audit: expected a model whose calibration promises a risk .*, found none"):
        audited(FakeModel("local"), FakeEndpoint("cloud"))


@dataclass(frozen=True)
class Promised(FixedThreshold):
    """A calibration that says what it counts as wrong, and what it promises."""

    loss: str = "exact"
    guarantee: str = "binomial"


def promising(text: str, **promise: Any) -> FakeModel:
    model = FakeModel(text, **SURE)
    model.calibration = Promised(0.8, **promise)
    return model


@pytest.mark.parametrize(
    ("loss", "guarantee", "lost"),
    [
        ("exact", "binomial", 1.0),
        ("edit_similarity<0.9", "binomial", 0.0),
        ("edit_similarity<0.99", "binomial", 1.0),
        ("edit_similarity", "hoeffding-bentkus", 1 / 16),
    ],
)
def test_the_promise_is_tested_by_its_own_loss(loss: str, guarantee: str, lost: float) -> None:
    """What the calibration calls near enough is no difference, and what it counts by degree counts by degree."""
    hybrid = audited(promising("local answer one", loss=loss, guarantee=guarantee), FakeEndpoint("local answer 0ne\n"))
    hybrid.suggest("text")
    drift = settle(hybrid, 1)
    assert (drift.lost, drift.differing) == (pytest.approx(lost), int(lost > 0))


def test_a_conformal_promise_is_not_audited() -> None:
    """It bounds the share of all suggestions, and only on average over calibrations: no test of what is served is one of it."""
    with pytest.raises(PolicyError, match="found a conformal one"):
        audited(promising("local", guarantee="conformal"), FakeEndpoint("cloud"))
    assert Hybrid(promising("local", guarantee="conformal")).drift is None


def test_no_promise_is_invented() -> None:
    """Only a model whose calibration promises a risk has a state of the test, and that has its numbers."""
    assert Hybrid(FakeModel("local"), FakeEndpoint("cloud"), Policy(threshold=0.5)).drift is None
    assert Hybrid(FakeModel("local", **SURE)).drift == Drift(risk=0.1, delta=0.05)


def test_feedback_is_counted_by_source() -> None:
    """What the application tells of suggestions adds up to acceptance."""
    hybrid = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint("cloud"))
    assert hybrid.acceptance() == Acceptance()
    assert hybrid.acceptance().rate is None
    cloud, local = hybrid.suggest("text"), hybrid.suggest("text", mode="only_local")
    hybrid.accepted(cloud)
    hybrid.edited(cloud)
    hybrid.dismissed(cloud)
    hybrid.accepted(local)
    assert hybrid.acceptance("cloud") == Acceptance(accepted=1, edited=1, dismissed=1)
    assert hybrid.acceptance("cloud").rate == pytest.approx(2 / 3)
    assert hybrid.acceptance().rate == pytest.approx(3 / 4)

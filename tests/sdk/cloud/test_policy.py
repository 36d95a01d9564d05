"""When the cloud is asked."""

from __future__ import annotations

from typing import Any

import pytest

from pocketseq.errors import PolicyError
from pocketseq.policy import Decision, Policy, decide


def decision(
    mode: Any = "prefer_local",
    *,
    threshold: float | None = None,
    confidence: float | None = 0.5,
    calibrated: float | None = None,
    has_endpoint: bool = True,
) -> Decision:
    policy = Policy(mode=mode, threshold=threshold)
    return decide(policy, confidence=confidence, calibrated=calibrated, has_endpoint=has_endpoint)


def test_only_local_never_asks() -> None:
    """The mode only_local asks nobody, however low the confidence."""
    assert decision("only_local", confidence=0.0, calibrated=0.9) == Decision(ask=False, reason="the mode is only_local")


def test_prefer_cloud_always_asks() -> None:
    """The mode prefer_cloud asks, however high the confidence."""
    assert decision("prefer_cloud", confidence=1.0, calibrated=0.1).ask


@pytest.mark.parametrize(("confidence", "ask"), [(0.79, True), (0.8, False), (0.81, False)])
def test_the_calibrated_threshold_decides(confidence: float, ask: bool) -> None:
    """A local answer whose confidence reaches the calibrated threshold is served, one below it is asked about."""
    found = decision(confidence=confidence, calibrated=0.8)
    assert found.ask is ask
    assert f"{confidence:.3f}" in found.reason
    assert "calibrated threshold 0.800" in found.reason


def test_a_threshold_of_the_policy_comes_first() -> None:
    """A threshold that the user names replaces the calibrated one."""
    found = decision(threshold=0.4, calibrated=0.8, confidence=0.5)
    assert not found.ask
    assert found.reason == "confidence 0.500 reaches the threshold 0.400"


def test_an_uncalibrated_model_is_served_and_says_so() -> None:
    """Without calibration and without a threshold no number is invented: the local answer is served."""
    found = decision(calibrated=None, confidence=0.01)
    assert not found.ask
    assert "uncalibrated" in found.reason


def test_calibration_that_serves_nothing_asks_always() -> None:
    """Where no threshold keeps the promised risk every answer is asked about, and the reason says why."""
    found = decision(calibrated=2.0, confidence=1.0)
    assert found.ask
    assert "no confidence from which the promised risk holds" in found.reason


def test_an_answer_without_confidence_is_asked_about() -> None:
    """An answer that has no confidence cannot reach a threshold."""
    assert decision(confidence=None, calibrated=0.5).ask


@pytest.mark.parametrize("mode", ["prefer_local", "prefer_cloud"])
def test_without_an_endpoint_nothing_leaves(mode: str) -> None:
    """Where the cloud would be asked but none is configured, the decision is local and the reason says so."""
    found = decision(mode, calibrated=0.9, has_endpoint=False)
    assert not found.ask
    assert "no endpoint is configured, so nothing left the device" in found.reason


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "sometimes"}, "mode: expected one of only_local, prefer_local, prefer_cloud, only_cloud, found 'sometimes'"),
        ({"threshold": -0.1}, "threshold: expected"),
        ({"threshold": float("nan")}, "threshold: expected"),
        ({"deadline_ms": 0}, "deadline_ms: expected"),
        ({"deadline_ms": float("nan")}, "deadline_ms: expected"),
        ({"max_tokens": 0}, "max_tokens: expected"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, words: str) -> None:
    """An unknown mode or a number out of its range is refused where the policy is made."""
    with pytest.raises(PolicyError, match=words):
        Policy(**settings)

"""When the cloud is asked: the user's policy, and the decision that follows from it for one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pocketseq.errors import PolicyError

Mode: TypeAlias = Literal["only_local", "prefer_local", "prefer_cloud", "only_cloud"]
"""``only_local`` never asks, ``prefer_local`` asks where the confidence is low, ``prefer_cloud`` asks always and falls back to the
local answer, ``only_cloud`` does not decode locally at all."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When the cloud is asked, and how long an answer may take."""

    mode: Mode = "prefer_local"
    """See ``Mode``."""
    threshold: float | None = None
    """Confidence from which a local answer is served without asking; None takes the one calibrated on the model's own variant."""
    deadline_ms: float | None = 800.0
    """From the call to the answer, over local decoding and the cloud together: the cloud gets what the local answer left. None
    leaves the bound to the endpoint."""
    max_tokens: int | None = None
    """Bound on the length of a cloud answer, and so on its cost; None leaves it to the endpoint."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise PolicyError(f"mode: expected one of {', '.join(get_args(Mode))}, found {self.mode!r}")
        if self.threshold is not None and not self.threshold >= 0:
            raise PolicyError(f"threshold: expected a confidence of 0 or more, found {self.threshold!r}")
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise PolicyError(f"deadline_ms: expected more than 0, found {self.deadline_ms!r}")
        if self.max_tokens is not None and not self.max_tokens > 0:
            raise PolicyError(f"max_tokens: expected more than 0, found {self.max_tokens!r}")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the cloud is asked about one answer."""

    ask: bool
    """True where the cloud is asked."""
    reason: str
    """Why, in words for people."""


def decide(policy: Policy, *, confidence: float | None, calibrated: float | None, has_endpoint: bool) -> Decision:
    """Decide whether the cloud is asked, given the local answer's confidence; pure.

    Args:
        policy: What the user wants.
        confidence: Of the local answer; None where it has none.
        calibrated: The threshold that the model's calibration found; None where it has none.
        has_endpoint: Whether there is a cloud to ask.
    """
    if policy.mode == "only_local":
        return Decision(ask=False, reason="the mode is only_local")
    if policy.mode == "prefer_cloud":
        return _ask("the mode is prefer_cloud", has_endpoint=has_endpoint)
    threshold = calibrated if policy.threshold is None else policy.threshold
    if threshold is None:
        return Decision(ask=False, reason="the model is uncalibrated and the policy names no threshold: served as it is")
    if policy.threshold is None and threshold > 1:
        return _ask("calibration found no confidence from which the promised risk holds", has_endpoint=has_endpoint)
    origin = "calibrated threshold" if policy.threshold is None else "threshold"
    if confidence is None:
        return _ask("the local answer has no confidence", has_endpoint=has_endpoint)
    if confidence >= threshold:
        return Decision(ask=False, reason=f"confidence {confidence:.3f} reaches the {origin} {threshold:.3f}")
    return _ask(f"confidence {confidence:.3f} is below the {origin} {threshold:.3f}", has_endpoint=has_endpoint)


def _ask(reason: str, *, has_endpoint: bool) -> Decision:
    if has_endpoint:
        return Decision(ask=True, reason=reason)
    return Decision(ask=False, reason=f"{reason}, but no endpoint is configured, so nothing left the device")

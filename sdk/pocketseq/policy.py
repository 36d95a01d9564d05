"""When the cloud is asked: the user's policy, and the decision that follows from it for one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pocketseq.budget import Budget, Price
from pocketseq.errors import PolicyError

Mode: TypeAlias = Literal["only_local", "prefer_local", "prefer_cloud", "only_cloud"]
"""``only_local`` never asks, ``prefer_local`` asks where the confidence is low, ``prefer_cloud`` asks always and falls back to the
local answer, ``only_cloud`` does not decode locally at all."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When the cloud is asked, what may leave for it, what it may cost, and how long an answer may take."""

    mode: Mode = "prefer_local"
    """See ``Mode``."""
    threshold: float | None = None
    """Confidence from which a local answer is served without asking; None takes the one calibrated on the model's own variant."""
    deadline_ms: float | None = 800.0
    """From the call to the answer, over local decoding and the cloud together: the cloud gets what the local answer left. None
    leaves the bound to the endpoint."""
    max_tokens: int | None = None
    """Bound on the length of a cloud answer, and so on its cost; None leaves it to the endpoint."""
    max_context: int | None = None
    """Most characters of an input that may leave; see ``pocketseq.privacy.prepare``. None sends what the template's fields hold."""
    hedge_below: float | None = 0.2
    """Where the model's pre-decode gate gives the local answer a lower probability to be right, the cloud is asked while it is
    still being decoded. None never asks before the local answer is there."""
    retries: int = 2
    """Requests after the first that failed in a way that may pass; all within the deadline."""
    budget: Budget | None = None
    """Limits on the use of the cloud."""
    price: Price | None = None
    """What the endpoint charges; receipts then say what an answer cost."""
    cache_size: int = 256
    """Answers that are kept in memory, to be given again for the same input or while the user types along; 0 keeps none."""
    continues: bool = False
    """Answers continue the primary field's text instead of repeating it: the cache then gives the rest of one to a user who types
    along. A template that edits its primary field needs no such word."""
    audit: float = 0.0
    """Share of the answers that are served locally for their confidence whose input is sent to the cloud all the same, to see
    whether the promised risk still holds: of those that the calibration itself would serve, whatever ``threshold`` says."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise PolicyError(f"mode: expected one of {', '.join(get_args(Mode))}, found {self.mode!r}")
        for name in ("threshold", "max_context", "retries", "cache_size"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                what = "a confidence of 0 or more" if name == "threshold" else "0 or more"
                raise PolicyError(f"{name}: expected {what}, found {value!r}")
        for name in ("deadline_ms", "max_tokens"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise PolicyError(f"{name}: expected more than 0, found {value!r}")
        for name in ("hedge_below", "audit"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise PolicyError(f"{name}: expected a number from 0 to 1, found {value!r}")
        if self.budget is not None and self.budget.limits_cost and self.price is None:
            raise PolicyError("price: expected what the endpoint charges, since the budget limits its cost; found none")


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


def hedges(policy: Policy, *, gate: float, calibrated: float | None) -> bool:
    """Decide whether the cloud is asked before the local answer is there; pure.

    Args:
        policy: What the user wants.
        gate: Probability, known before decoding, that the local answer will be right.
        calibrated: See ``decide``.
    """
    threshold = calibrated if policy.threshold is None else policy.threshold
    # At a threshold of zero every local answer is served: nothing may leave for one that will be served anyway.
    may_ask = policy.mode == "prefer_local" and threshold is not None and threshold > 0
    return may_ask and policy.hedge_below is not None and gate < policy.hedge_below


def _ask(reason: str, *, has_endpoint: bool) -> Decision:
    if has_endpoint:
        return Decision(ask=True, reason=reason)
    return Decision(ask=False, reason=f"{reason}, but no endpoint is configured, so nothing left the device")

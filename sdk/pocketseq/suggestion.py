"""What a hybrid answers: the text, where it comes from and why, and what left the device for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from pocketseq.privacy.redaction import Redacted
from pocketseq.results import Result

Source: TypeAlias = Literal["local", "cloud", "cache"]
"""Where an answer comes from."""

Choice: TypeAlias = Literal["serve", "ask", "hedge", "cache"]
"""What was decided: to serve the local answer, to ask the cloud, to ask it while the local answer was still being decoded, or to
give an earlier answer again."""


TAKEN_BACK: Final = "cancelled"
"""In place of an error: the request was stopped because nobody needed its answer any more."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to the endpoint."""

    started_ms: float
    """From the call to the start of the request."""
    latency_ms: float
    """From the start of the request to its end."""
    bytes_sent: int
    """Size of the request's body; where the request was given up before its end was known, at least that of the prompt."""
    bytes_received: int = 0
    """Size of the response's body."""
    status: int | None = None
    """HTTP status of an error, where there was one."""
    error: str | None = None
    """Class of the error that ended it, of ``pocketseq.errors``; ``TAKEN_BACK`` where the local answer made it needless."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was decided for one answer, what left the device for it, and what that brought."""

    decision: Choice = "serve"
    """See ``Choice``."""
    score: float | None = None
    """The local answer's confidence; None where there is none, or the answer was cut short."""
    threshold: float | None = None
    """What it was compared with; None where there was none."""
    gate: float | None = None
    """Probability, known before decoding, that the local answer would be right; None where the model has no such gate."""
    calibration: str | None = None
    """Fingerprint of the calibration behind score and threshold; None for a model without one."""
    endpoint: str | None = None
    """URL of the endpoint that was asked; None where none was."""
    model: str | None = None
    """The model that answered there, by the endpoint's own word."""
    sent: str | None = field(default=None, repr=False)
    """The input as it left, redacted and cut, without the template's fixed instruction; None where nothing left."""
    redacted: tuple[Redacted, ...] = ()
    """Kinds and counts of what was kept back; never what it was."""
    attempts: tuple[Attempt, ...] = ()
    """Requests made, in order."""
    bytes_sent: int = 0
    """Size of all request bodies."""
    bytes_received: int = 0
    """Size of all response bodies."""
    prompt_tokens: int | None = None
    """Tokens that the endpoint counted as read."""
    completion_tokens: int | None = None
    """Tokens that the endpoint counted as written."""
    cost: float | None = None
    """By the policy's price; estimated from sizes where the endpoint counted no tokens. None without a price."""
    latency_ms: float = 0.0
    """From the first request to the end of the last, waits between them included."""
    total_ms: float = 0.0
    """From the call to the answer."""
    error: str | None = None
    """Class of the error for which the endpoint gave no usable answer where one was wanted, of ``pocketseq.errors``."""
    audited: bool = False
    """Whether ``sent`` also left, or is about to, for an audit of the local answer."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One answer of a hybrid."""

    text: str
    """The answer."""
    source: Source
    """Where it comes from."""
    confidence: float | None
    """Of the local answer, which the decision was made on; None where there is no local answer, or none with a confidence,
    such as one that the deadline cut short."""
    reason: str
    """Why this answer, in words for people; names the error where the cloud failed."""
    receipt: Receipt
    """What was decided, and what left the device."""
    local: Result | None
    """The local answer, also where the cloud's is served; None in the mode ``only_cloud``."""

"""What a hybrid answers: the text, where it comes from and why, and what left the device for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pocketseq.results import Result

Source: TypeAlias = Literal["local", "cloud", "cache"]
"""Where an answer comes from."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What left the device for one answer, and what that brought; all zero where nothing left."""

    endpoint: str | None = None
    """URL of the endpoint that was asked; None where none was."""
    attempts: int = 0
    """Requests made."""
    bytes_sent: int = 0
    """Size of the request bodies."""
    bytes_received: int = 0
    """Size of the response bodies."""
    prompt_tokens: int | None = None
    """Tokens that the endpoint counted as read."""
    completion_tokens: int | None = None
    """Tokens that the endpoint counted as written."""
    latency_ms: float = 0.0
    """Time spent on the endpoint."""
    error: str | None = None
    """Class of the error for which the endpoint gave no usable answer, of ``pocketseq.errors``."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One answer of a hybrid."""

    text: str
    """The answer."""
    source: Source
    """Where it comes from."""
    confidence: float | None
    """Of the local answer, which the decision was made on; None where there is no local answer, or none with a confidence."""
    reason: str
    """Why this answer, in words for people; names the error where the cloud failed."""
    receipt: Receipt
    """What left the device."""
    local: Result | None
    """The local answer, also where the cloud's is served; None in the mode ``only_cloud``."""

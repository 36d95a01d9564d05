"""What a hybrid asks of a cloud: one method, and one form of answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Completion:
    """An endpoint's answer to one prompt, and what it cost."""

    text: str
    """The answer."""
    finish_reason: str | None
    """``stop`` where the model ended the answer, ``length`` where a token limit did, ``content_filter`` where the endpoint's filter
    did; None where the endpoint does not say."""
    prompt_tokens: int | None
    """Tokens read, by the endpoint's own count; None where it does not say."""
    completion_tokens: int | None
    """Tokens written, by the endpoint's own count; None where it does not say."""
    mean_logprob: float | None
    """Mean log-probability of the answer's tokens; None where the endpoint gives none."""
    latency_ms: float
    """From the call to the whole answer."""
    request_bytes: int
    """Size of the request body that left the device."""
    response_bytes: int
    """Size of the response body that came back."""
    model: str | None = None
    """The model that answered, by the endpoint's own word; None where it does not say."""
    logprob: float | None = None
    """Sum of the log-probabilities that ``mean_logprob`` is the mean of. There may be fewer than ``completion_tokens``, which
    count what a model thinks too; None where the endpoint gives none."""


class Endpoint(Protocol):
    """A text model somewhere else; safe to call from many threads."""

    @property
    def url(self) -> str:
        """Where the text goes, without credentials; written into receipts."""
        ...

    def complete(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> Completion:
        """Answer one prompt.

        Args:
            prompt: The input as ``Template.render_prompt`` writes it.
            instruction: What a general-purpose model is to do with it; empty where the model knows.
            max_tokens: Bound on the answer's length; the endpoint's own if not given.
            deadline_s: Seconds from now after which an answer is of no use.

        Raises:
            EndpointError: no usable answer; the class says why.
        """
        ...


class CompletionStream(Protocol):
    """An answer on its way."""

    def __iter__(self) -> Iterator[str]:
        """Give its pieces as they come.

        Raises:
            EndpointError: it broke off, or the deadline passed; the pieces given are not the whole answer.
        """
        ...

    @property
    def completion(self) -> Completion:
        """The whole answer, once the pieces have ended."""
        ...

    def close(self) -> None:
        """Give it up; may be called from another thread than the one that waits for pieces, which then raises at once."""
        ...


@runtime_checkable
class StreamingEndpoint(Endpoint, Protocol):
    """An endpoint that can also answer piece by piece, and be stopped on the way."""

    def stream(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> CompletionStream:
        """Begin to answer one prompt; see ``complete``.

        Raises:
            EndpointError: no usable answer; here, or while the pieces come.
        """
        ...

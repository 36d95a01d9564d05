"""An endpoint that answers by a script."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from pocketseq.endpoint import Completion
from pocketseq.errors import EndpointError, EndpointTimeoutError


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer in a script."""

    text: str = ""
    """The answer."""
    delay_s: float = 0.0
    """How long it takes; a call whose deadline is shorter fails at its deadline."""
    error: EndpointError | None = None
    """Raised after the delay instead of the answer."""
    finish_reason: str = "stop"
    """``length`` for an answer that a token limit cut."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that an endpoint received."""

    prompt: str
    """The input as the template wrote it."""
    instruction: str
    """What to do with it."""
    max_tokens: int | None
    """Bound on the answer."""
    deadline_s: float | None
    """Seconds that the caller would wait."""


class FakeEndpoint:
    """An ``Endpoint`` without a network: it answers by a script and remembers what it was asked.

    ``FakeEndpoint("fixed")`` always gives that answer; with more steps each call takes the next, and the last one repeats. A step
    is a text, an ``EndpointError`` to raise, or a ``Reply`` with a delay. Safe to call from many threads.
    """

    url = "https://fake.invalid/v1"

    def __init__(self, first: str | EndpointError | Reply, *more: str | EndpointError | Reply) -> None:
        """Set the script.

        Args:
            first: The first step.
            more: The steps after it.
        """
        self._script = [_reply(step) for step in (first, *more)]
        self._lock = threading.Lock()
        self.calls: list[Call] = []
        """What it was asked, in order."""

    def complete(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> Completion:
        """Take the script's next step; see ``Endpoint.complete``."""
        with self._lock:
            self.calls.append(Call(prompt, instruction, max_tokens, deadline_s))
            reply = self._script[min(len(self.calls), len(self._script)) - 1]
        sent = len(prompt.encode("utf-8")) + len(instruction.encode("utf-8"))
        started_s = time.monotonic()
        time.sleep(reply.delay_s if deadline_s is None else min(reply.delay_s, deadline_s))
        if deadline_s is not None and reply.delay_s > deadline_s:
            raise EndpointTimeoutError(
                f"{self.url}: expected an answer within {deadline_s * 1000:.0f} ms, found none", request_bytes=sent
            )
        if reply.error is not None:
            raise reply.error
        return Completion(
            text=reply.text,
            finish_reason=reply.finish_reason,
            prompt_tokens=len(prompt.split()),
            completion_tokens=len(reply.text.split()),
            mean_logprob=None,
            latency_ms=(time.monotonic() - started_s) * 1000,
            request_bytes=sent,
            response_bytes=len(reply.text.encode("utf-8")),
        )


def _reply(step: str | EndpointError | Reply) -> Reply:
    if isinstance(step, Reply):
        return step
    return Reply(error=step) if isinstance(step, EndpointError) else Reply(step)

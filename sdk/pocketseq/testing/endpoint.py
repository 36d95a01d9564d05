"""An endpoint that answers by a script."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pocketseq.endpoint import Completion
from pocketseq.errors import EndpointError, EndpointTimeoutError, EndpointUnavailableError


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
    pieces: tuple[str, ...] = ()
    """Pieces that a stream gives; words of the text if empty. An error of the step comes after them."""


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
        reply = self._next(Call(prompt, instruction, max_tokens, deadline_s))
        sent = _size(prompt, instruction)
        started_s = time.monotonic()
        time.sleep(max(0.0, reply.delay_s if deadline_s is None else min(reply.delay_s, deadline_s)))
        if deadline_s is not None and reply.delay_s > deadline_s:
            raise EndpointTimeoutError(
                f"{self.url}: expected an answer within {deadline_s * 1000:.0f} ms, found none", request_bytes=sent
            )
        if reply.error is not None:
            raise reply.error
        return _completion(reply, reply.text, prompt_bytes=sent, started_s=started_s)

    def _next(self, call: Call) -> Reply:
        with self._lock:
            self.calls.append(call)
            return self._script[min(len(self.calls), len(self._script)) - 1]


class FakeStreamingEndpoint(FakeEndpoint):
    """A ``FakeEndpoint`` that can also answer piece by piece, a word at a time, and be stopped on the way.

    A step with ``pieces`` gives these, and then its error where it has one: an answer that breaks off.
    """

    def stream(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> FakeStream:
        """Take the script's next step; see ``StreamingEndpoint.stream``."""
        reply = self._next(Call(prompt, instruction, max_tokens, deadline_s))
        return FakeStream(reply, self.url, prompt_bytes=_size(prompt, instruction), deadline_s=deadline_s)


class FakeStream:
    """A ``CompletionStream`` by a script."""

    def __init__(self, reply: Reply, url: str, *, prompt_bytes: int, deadline_s: float | None) -> None:
        """Begin an answer."""
        self._reply = reply
        self._url = url
        self._prompt_bytes = prompt_bytes
        self._until_s = math.inf if deadline_s is None else time.monotonic() + deadline_s
        self._started_s = time.monotonic()
        self.closed = threading.Event()
        """Set when it was given up, or has ended."""

    def __iter__(self) -> Iterator[str]:
        late = time.monotonic() + self._reply.delay_s > self._until_s
        stopped = self.closed.wait(max(0.0, min(self._reply.delay_s, self._until_s - time.monotonic())))
        if stopped or late:
            kind = EndpointUnavailableError if stopped else EndpointTimeoutError
            words = f"{self._url}: expected a whole answer, found it given up"
            raise kind(words, request_bytes=self._prompt_bytes, retryable=False)
        yield from self._reply.pieces or re.findall(r"\s*\S+\s*$|\s*\S+|\s+", self._reply.text)
        if self._reply.error is not None:
            raise self._reply.error

    @property
    def completion(self) -> Completion:
        """The whole answer."""
        text = "".join(self._reply.pieces) or self._reply.text
        return _completion(self._reply, text, prompt_bytes=self._prompt_bytes, started_s=self._started_s)

    def close(self) -> None:
        """Give it up."""
        self.closed.set()


def _size(prompt: str, instruction: str) -> int:
    return len(prompt.encode("utf-8")) + len(instruction.encode("utf-8"))


def _completion(reply: Reply, text: str, *, prompt_bytes: int, started_s: float) -> Completion:
    return Completion(
        text=text,
        finish_reason=reply.finish_reason,
        prompt_tokens=max(1, prompt_bytes // 4),
        completion_tokens=len(text.split()),
        mean_logprob=None,
        latency_ms=(time.monotonic() - started_s) * 1000,
        request_bytes=prompt_bytes,
        response_bytes=len(text.encode("utf-8")),
    )


def _reply(step: str | EndpointError | Reply) -> Reply:
    if isinstance(step, Reply):
        return step
    return Reply(error=step) if isinstance(step, EndpointError) else Reply(step)

"""One question to the cloud: requests, again where that may help, and never beyond the deadline."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pocketseq.endpoint import Completion, CompletionStream, StreamingEndpoint
from pocketseq.errors import (
    EndpointError,
    EndpointRefusalError,
    EndpointResponseError,
    EndpointTimeoutError,
    EndpointWithheldError,
)
from pocketseq.hybrid.breaker import Verdict, verdict
from pocketseq.hybrid.deadline import Deadline
from pocketseq.privacy.outgoing import Outgoing
from pocketseq.privacy.redaction import StreamRestorer
from pocketseq.suggestion import TAKEN_BACK, Attempt

if TYPE_CHECKING:
    from pocketseq.hybrid.cloud import Cloud


@dataclass(frozen=True, slots=True)
class Answer:
    """How a question ended."""

    outcome: Completion | EndpointError
    """The whole answer with its placeholders restored, or why there is none."""
    attempts: tuple[Attempt, ...] = ()
    """Requests made."""
    cost: float | None = None
    """Of all of them; None without a price."""
    completion: Completion | None = None
    """What the cloud gave, half an answer too: its tokens were spent."""


class Ask:
    """One question on its way; ``Cloud.ask`` makes it and runs it in a thread."""

    def __init__(
        self,
        cloud: Cloud,
        prepare: Callable[[], Outgoing],
        deadline: Deadline,
        *,
        streamed: bool,
        on_end: Callable[[Answer], None] | None = None,
    ) -> None:
        """Get ready; ``run`` asks."""
        self.outgoing: Outgoing | None = None
        """What leaves, once it is prepared."""
        self._prepare = prepare
        self._cloud = cloud
        self._url = cloud.endpoint.url
        self._deadline = deadline
        self._streamed = streamed
        self._on_end = on_end
        self._news: queue.SimpleQueue[str | Answer] = queue.SimpleQueue()
        self._prepared = threading.Event()
        self._stopped = threading.Event()
        self._needless = False
        self._lock = threading.Lock()
        self._stream: CompletionStream | None = None
        self._attempts: list[Attempt] = []
        self._under_way: Attempt | None = None
        self._cost: float | None = None
        self._completion: Completion | None = None
        self._expected_cost = 0.0
        self._gave_pieces = False

    def next(self, timeout_s: float | None) -> str | Answer | None:
        """Wait for the next piece of a streamed answer, or for the end; None where there is neither in time."""
        try:
            return self._news.get(timeout=None if timeout_s is None else max(0.0, timeout_s))
        except queue.Empty:
            return None

    def prepared(self, timeout_s: float | None) -> Outgoing | None:
        """Wait for what leaves; where it is not there in time, the question is stopped, and None says that nothing leaves."""
        self._prepared.wait(None if timeout_s is None else max(0.0, timeout_s))
        # It may come, and leave, in the moment in which it is given up.
        return self.outgoing if self.outgoing is not None or self.take_back().attempts else None

    def take_back(self) -> Answer:
        """Stop it because its answer is needless now."""
        self._needless = True
        return self._stop(TAKEN_BACK, EndpointError("the question was taken back"))

    def give_up(self) -> Answer:
        """Stop waiting because the deadline has passed."""
        late = EndpointTimeoutError(f"{self._url}: expected an answer before the deadline, found none")
        return self._stop(type(late).__name__, late)

    def refuse(self, words: str) -> None:
        """End it before anything was sent."""
        self._prepared.set()
        self._news.put(Answer(EndpointWithheldError(f"{self._url}: {words}")))

    def run(self) -> None:
        """Ask until there is an answer, a final failure, or no time; whatever happens ends in an ``Answer``."""
        outcome: Completion | EndpointError
        try:
            outcome = self._ask()
        except EndpointError as error:
            outcome = error
        except Exception as error:  # whatever slips, the caller hears of it as what it can handle
            outcome = EndpointError(f"{self._url}: asking failed with {type(error).__name__}")
        with self._lock:
            answer = Answer(outcome, tuple(self._attempts), self._cost, self._completion)
        self._news.put(answer)
        if self._on_end is not None:
            self._on_end(answer)

    def _ask(self) -> Completion:
        cloud, retry, refused = self._cloud, 0, False
        try:
            outgoing = self.outgoing = self._prepare()
        finally:
            self._prepared.set()
        while True:
            if self._deadline.passed or self._stopped.is_set():
                raise EndpointTimeoutError(f"{self._url}: expected time to ask, found the deadline passed; nothing more was sent")
            outcome = self._attempt(outgoing)
            if isinstance(outcome, Completion):
                cloud.quota.succeeded(retry=retry > 0)
                cloud.streams = cloud.streams and not refused
                return self._checked(outcome, outgoing)
            if self._refuses_stream(outcome):
                self._streamed, refused = False, True  # it may well answer whole, and needs no rest before it does
                continue
            if not outcome.retryable or retry >= cloud.retries or self._gave_pieces or not self._wait(retry, outcome):
                raise outcome
            retry += 1

    def _refuses_stream(self, error: EndpointError) -> bool:
        """Whether a server says that it does not stream; other requests that it finds wrong stay so when they are asked whole."""
        said = error.status in {400, 422, 501} and "stream" in str(error).lower()
        return said and self._streamed and not self._gave_pieces

    def _wait(self, retry: int, error: EndpointError) -> bool:
        """Wait before a retry; False where there is no time for it, or too many retries have failed."""
        cloud = self._cloud
        wait_s = cloud.backoff.wait_s(retry, retry_after_s=error.retry_after_s, random=cloud.random)
        if not self._deadline.allows(wait_s) or not cloud.quota.take():
            return False
        return not self._stopped.wait(wait_s)

    def _attempt(self, outgoing: Outgoing) -> Completion | EndpointError:
        """One request: admitted, counted, judged and written down.

        Raises:
            EndpointWithheldError: it was not made.
        """
        cloud = self._cloud
        rest_s = cloud.breaker.admit()
        if rest_s > 0:
            raise EndpointWithheldError(
                f"{self._url}: has failed again and again and is left alone for another {rest_s:.1f} s; nothing was sent"
            )
        found, size = Verdict.UNKNOWN, outgoing.size_bytes
        try:
            expected = cloud.reserve(size)
            started_ms = self._deadline.elapsed_ms()
            if not self._set_out(Attempt(started_ms=started_ms, latency_ms=0.0, bytes_sent=size), expected.cost):
                cloud.settle(expected, None, sent=False)
                raise EndpointWithheldError(f"{self._url}: the question was stopped before it was asked; nothing more was sent")
            outcome = self._outcome(outgoing)
            found = Verdict.UNKNOWN if self._needless else verdict(outcome if isinstance(outcome, EndpointError) else None)
        finally:
            cloud.breaker.report(found)
        error = outcome if isinstance(outcome, EndpointError) else None
        completion = outcome if isinstance(outcome, Completion) else None
        sent = error is None or error.request_bytes > 0 or error.status is not None
        cost = cloud.settle(expected, completion, sent=sent)
        with self._lock:
            self._under_way = None
            self._completion = completion
            self._cost = cost if self._cost is None else self._cost + (cost or 0.0)
            self._attempts.append(
                Attempt(
                    started_ms=started_ms,
                    latency_ms=self._deadline.elapsed_ms() - started_ms,
                    bytes_sent=outcome.request_bytes,
                    bytes_received=outcome.response_bytes,
                    status=None if error is None else error.status,
                    error=None if error is None else type(error).__name__,
                )
            )
        return outcome

    def _set_out(self, attempt: Attempt, expected_cost: float) -> bool:
        """Write down that a request is about to be made; False where the question was stopped meanwhile."""
        with self._lock:
            # Counting it took time. Whoever stops the question from here on finds this request, and tells that something left.
            if self._stopped.is_set():
                return False
            self._under_way, self._expected_cost = attempt, expected_cost
            return True

    def _outcome(self, outgoing: Outgoing) -> Completion | EndpointError:
        """Make the request; whatever goes wrong comes back as an error, unraised."""
        try:
            # An endpoint may be anybody's code: what it promises and what it gives are two things.
            completion: object = self._streamed_completion(outgoing) if self._streamed else self._whole_completion(outgoing)
            if isinstance(completion, Completion):
                return completion
            found = type(completion).__name__
            return EndpointResponseError(f"{self._url}: expected a Completion, found {found}", request_bytes=outgoing.size_bytes)
        except EndpointError as error:
            return error
        except Exception as error:
            # Its words are left out: they may hold what must not be written down.
            return EndpointError(f"{self._url}: the endpoint raised {type(error).__name__}", request_bytes=outgoing.size_bytes)

    def _whole_completion(self, outgoing: Outgoing) -> Completion:
        return self._cloud.endpoint.complete(
            outgoing.prompt,
            instruction=outgoing.instruction,
            max_tokens=self._cloud.max_tokens,
            deadline_s=self._deadline.left_s,
        )

    def _streamed_completion(self, outgoing: Outgoing) -> Completion:
        endpoint = self._cloud.endpoint
        assert isinstance(endpoint, StreamingEndpoint)
        stream = endpoint.stream(
            outgoing.prompt,
            instruction=outgoing.instruction,
            max_tokens=self._cloud.max_tokens,
            deadline_s=self._deadline.left_s,
        )
        with self._lock:
            self._stream = stream
        restorer = StreamRestorer(outgoing.redaction)
        try:
            if self._stopped.is_set():
                _close(stream)
            for piece in stream:
                if not isinstance(piece, str):
                    raise EndpointResponseError(f"{self._url}: expected pieces of text, found {type(piece).__name__}")
                self._give(restorer.push(piece))
            self._give(restorer.finish())
            return stream.completion
        finally:
            _close(stream)

    def _give(self, piece: str) -> None:
        if piece:
            self._gave_pieces = True
            self._news.put(piece)

    def _checked(self, completion: Completion, outgoing: Outgoing) -> Completion:
        """A whole answer with the originals in it; half an answer is none."""
        if completion.finish_reason == "length":
            raise EndpointResponseError(
                f"{self._url}: expected a whole answer, found one cut at its token limit; raise the policy's max_tokens"
            )
        if completion.finish_reason == "content_filter":
            raise EndpointRefusalError(f"{self._url}: expected a whole answer, found one that the endpoint's filter cut off")
        return replace(completion, text=outgoing.redaction.restore(completion.text))

    def _stop(self, error: str, outcome: EndpointError) -> Answer:
        self._stopped.set()
        with self._lock:
            stream, attempts, cost = self._stream, list(self._attempts), self._cost
            if self._under_way is not None:
                latency_ms = self._deadline.elapsed_ms() - self._under_way.started_ms
                attempts.append(replace(self._under_way, latency_ms=latency_ms, error=error))
                cost = None if self._cloud.price is None else (cost or 0.0) + self._expected_cost
            answer = Answer(outcome, tuple(attempts), cost, self._completion)
        self._news.put(answer)  # whoever waits in another thread need not wait on
        if stream is not None:
            # In a thread of its own: closing may take anybody's stream as long as it likes, and here a deadline has passed.
            with suppress(RuntimeError):  # no thread left: the endpoint hears of it at its own deadline
                threading.Thread(target=_close, args=(stream,), name="pocketseq-close", daemon=True).start()
        return answer


def _close(stream: CompletionStream) -> None:
    with suppress(Exception):  # anybody's code; nothing hangs on how it ends
        stream.close()

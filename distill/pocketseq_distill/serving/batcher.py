"""Concurrent requests answered together: one thread, one model, batches of whatever is waiting."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Self, TypeAlias

from pocketseq_distill.decoder import Emission
from pocketseq_distill.generation import Answer, Request, TeacherModel

_log = logging.getLogger(__name__)

OnToken: TypeAlias = Callable[[int, int, float], None]

MAX_WAITING: Final = 1024
"""Requests that may wait or be under way; past that it is kinder to say so at once."""


@dataclass(frozen=True, slots=True)
class Job:
    """A request on its way through the batcher; cancelling the future takes it out, waiting or under way."""

    request: Request
    on_token: Callable[[int, float], None] | None
    """Told of each (token, logprob) from the worker's thread."""
    future: Future[Answer] = field(default_factory=Future)
    """The answer to be."""
    emission: Emission = field(default_factory=Emission)
    """What was emitted so far."""


class Batcher:
    """Collects requests that arrive close together and decodes them as one batch.

    Each answer is given as soon as its own row ends. When a batch fails its requests are tried one by one, so that only the one at
    fault is told; so is one that was told tokens already and alone is answered by others, as can happen where two are near a tie.
    """

    def __init__(self, model: TeacherModel, *, max_batch: int = 16, window_s: float = 0.003) -> None:
        """Start the worker thread.

        Args:
            model: Answers the batches.
            max_batch: Requests in a batch at most.
            window_s: How long the first request of a batch waits for company.
        """
        self._model = model
        self._max_batch = max_batch
        self._window_s = window_s
        self._waiting: queue.Queue[Job | None] = queue.Queue()
        self._lock = threading.Lock()
        self._open = 0  # not what waits: a request that was cancelled stands there until its turn, but takes nobody's place
        self._thread = threading.Thread(target=self._work, name="pocketseq-batcher", daemon=True)
        self._thread.start()

    def submit_all(self, requests: Sequence[Request], on_token: OnToken | None = None) -> list[Job]:
        """Take requests, all or none.

        Args:
            requests: What to answer.
            on_token: Told of each (place in requests, token, logprob) from the worker's thread.

        Raises:
            queue.Full: too many are waiting.
        """
        with self._lock:
            if self._open + len(requests) > MAX_WAITING:
                raise queue.Full
            self._open += len(requests)
        jobs = [Job(request, on_token and partial(on_token, place)) for place, request in enumerate(requests)]
        for job in jobs:
            job.future.add_done_callback(self._leave)
            self._waiting.put(job)
        return jobs

    def _leave(self, _: Future[Answer]) -> None:
        with self._lock:
            self._open -= 1

    def close(self) -> None:
        """Answer what is waiting, then end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            self._answer(self._gather(first))

    def _gather(self, first: Job) -> list[Job]:
        jobs = [first]
        end_s = time.monotonic() + self._window_s
        while len(jobs) < self._max_batch:
            try:
                job = self._waiting.get(timeout=max(0.0, end_s - time.monotonic()))
            except queue.Empty:
                break
            if job is None:  # closing: the worker has to see it after this batch
                self._waiting.put(None)
                break
            jobs.append(job)
        return jobs

    def _answer(self, jobs: Sequence[Job]) -> None:
        jobs = [job for job in jobs if not job.future.done()]
        try:
            self._decode(jobs)
        except Exception as error:
            if len(jobs) > 1:
                _log.warning("a batch of %d failed, trying its requests one by one: %s", len(jobs), error)
                for job in jobs:
                    self._answer([job])
                return
            _log.exception("a request failed")
            with suppress(InvalidStateError):
                jobs[0].future.set_exception(error)

    def _decode(self, jobs: Sequence[Job]) -> None:
        positions = [0] * len(jobs)
        for job in jobs:
            if job.on_token is None:  # nobody has heard what was said before its batch failed
                job.emission.tokens.clear()
                job.emission.logprobs.clear()

        def on_token(row: int, token: int, logprob: float) -> bool:
            job, position = jobs[row], positions[row]
            positions[row] += 1
            if position == len(job.emission.tokens):
                job.emission.tokens.append(token)
                job.emission.logprobs.append(logprob)
                if job.on_token is not None:
                    job.on_token(token, logprob)
            elif token != job.emission.tokens[position]:
                raise RuntimeError("expected the tokens that were told before the batch failed, found others when asked alone")
            if token in self._model.decoder.end_ids or position + 1 == job.request.max_new_tokens:
                with suppress(InvalidStateError):
                    job.future.set_result(self._model.read(job.request, job.emission))
            return not job.future.done()

        self._model.decode([job.request for job in jobs], on_token)

"""Batching for servers: many callers, one model, answers together; a queue that refuses instead of growing."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Final, Unpack

from pocketseq.decoding.cancellation import Cancellation
from pocketseq.errors import InputError, QueueFullError, RuntimeUnavailableError
from pocketseq.job import Job
from pocketseq.model import PocketModel
from pocketseq.options import Options, Request
from pocketseq.plan import Plan
from pocketseq.results import Result
from pocketseq.template import Input


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: Job
    plan: Plan
    future: Future[Result] = field(default_factory=Future)


class BatchQueue:
    """Answers what many threads or tasks ask, as many at once as are waiting; each answer is that of ``generate``.

    Nobody waits for a batch to fill: what has come while the model worked runs together next, the oldest first. Requests with the
    same options run together. What was cancelled gives its place to others, and what waited past its deadline is answered before
    the next batch, not when its turn comes. A variant that quantizes activations as it runs may round an input differently beside
    others than alone.
    """

    def __init__(self, model: PocketModel, *, max_waiting: int = 256, max_batch: int = 32) -> None:
        """Start the thread that answers; close the queue to end it.

        Args:
            model: Answers; it stays open when the queue is closed.
            max_waiting: Requests that may wait; one more is refused.
            max_batch: Requests that are answered together at most.

        Raises:
            InputError: a number out of its range.
        """
        for name, number in (("max_waiting", max_waiting), ("max_batch", max_batch)):
            if type(number) is not int or number < 1:
                raise InputError(f"{name}: expected a whole number of at least 1, found {number!r}")
        self._model: Final = model
        self._max_waiting: Final = max_waiting
        self._max_batch: Final = max_batch
        self._waiting: deque[_Waiting] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="pocketseq-batches", daemon=True)
        self._worker.start()

    def submit(self, source: Input, **options: Unpack[Options]) -> Future[Result]:
        """Ask, and be told later.

        Args:
            source: See ``PocketModel.generate``.
            **options: See ``PocketModel.generate``; the deadline counts from here, waiting included. What is not begun by then is
                answered with nothing and the finish reason ``deadline``.

        Returns:
            A future; cancelling it before its turn takes the request out of the queue.

        Raises:
            InputError: see ``PocketModel.generate``; at the call.
            QueueFullError: ``max_waiting`` requests are waiting.
            RuntimeUnavailableError: the queue is closed.
        """
        called, request = perf_counter(), Request(**options)
        with self._news:
            self._check()  # before the text is read, which takes longer
        engine = self._model._opened()
        job = engine.read(source, request, called=called)
        # Deadlines and cancellations are each request's own and stand in its job; the rest must be alike to run together.
        waiting = _Waiting(job, engine.plan(replace(request, deadline_s=None, cancellation=None)))
        with self._news:
            self._check()
            self._waiting.append(waiting)
            self._news.notify()
        return waiting.future

    def generate(self, source: Input, **options: Unpack[Options]) -> Result:
        """Ask, and wait for the answer; see ``submit``."""
        return self.submit(source, **options).result()

    async def agenerate(self, source: Input, **options: Unpack[Options]) -> Result:
        """Ask without blocking the event loop; cancelling the task takes the request out of its batch within a step."""
        cancellation = Cancellation(options.get("cancellation"))
        asked: Options = {**options, "cancellation": cancellation}
        future = self.submit(source, **asked)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise

    def close(self) -> None:
        """Take no more requests, answer those that wait, and end the thread; closing twice is no error."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._worker.join()

    def __enter__(self) -> BatchQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self) -> None:
        """Refuse what may not wait; call with the lock."""
        if self._closed:
            raise RuntimeUnavailableError("expected an open BatchQueue, found it closed; make another")
        if len(self._waiting) >= self._max_waiting:
            for waiting in self._take(lambda waiting: waiting.future.cancelled()):
                waiting.future.set_running_or_notify_cancel()
        if len(self._waiting) >= self._max_waiting:
            raise QueueFullError(
                f"expected at most {self._max_waiting} requests waiting, found as many; ask again later, or raise max_waiting"
            )

    def _work(self) -> None:
        while batch := self._next_batch():
            self._answer([waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()])
            with self._news:
                late = self._take(lambda waiting: waiting.job.halted() is not None)
            for waiting in late:
                if waiting.future.set_running_or_notify_cancel():
                    self._answer([waiting])

    def _take(self, which: Callable[[_Waiting], bool]) -> list[_Waiting]:
        """Take requests out of the queue; call with the lock."""
        taken: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        for waiting in self._waiting:
            (taken if which(waiting) else left).append(waiting)
        self._waiting = left
        return taken

    def _next_batch(self) -> list[_Waiting]:
        """The oldest request and those that may run with it; nothing when the queue is closed and empty."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closed)
            batch: list[_Waiting] = []
            others: list[_Waiting] = []
            while self._waiting and len(batch) < self._max_batch:
                waiting = self._waiting.popleft()
                (batch if not batch or waiting.plan.request == batch[0].plan.request else others).append(waiting)
            self._waiting.extendleft(reversed(others))
            return batch

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        try:
            results = self._model._opened().answer([waiting.job for waiting in batch], batch[0].plan)
        except BaseException as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            for waiting in batch if len(batch) > 1 else ():  # one of them is to blame, and the others are not
                self._answer([waiting])
        else:
            for waiting, result in zip(batch, results, strict=True):
                waiting.future.set_result(result)

"""Batching for servers: many callers, one model, answers together; a queue that refuses instead of growing."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from time import perf_counter
from types import MethodType
from typing import Final, Unpack

from pocketseq.decoding.cancellation import Cancellation
from pocketseq.decoding.settings import Constraints
from pocketseq.errors import InputError, QueueFullError, RuntimeUnavailableError
from pocketseq.job import Job
from pocketseq.model import PocketModel
from pocketseq.options import Options, Request
from pocketseq.plan import Plan
from pocketseq.results import Result, answers_before
from pocketseq.template import Input
from pocketseq.threads import bearable, in_thread


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    job: Job
    plan: Plan
    kind: Hashable
    """What those that run together have alike; see ``_kind``."""
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
            A future; cancelling it before its turn takes the request out of the queue. A StopIteration that a callback raises comes
            out of it as the cause of a RuntimeError, for whoever wraps it for asyncio would wait for ever.

        Raises:
            InputError: see ``PocketModel.generate``; at the call.
            QueueFullError: ``max_waiting`` requests are waiting.
            RuntimeUnavailableError: the queue is closed.
        """
        return self._submit(source, Request(**options), perf_counter())

    def generate(self, source: Input, **options: Unpack[Options]) -> Result:
        """Ask, and wait for the answer; see ``submit``."""
        return self.submit(source, **options).result()

    async def agenerate(self, source: Input, **options: Unpack[Options]) -> Result:
        """Ask without blocking the event loop; cancelling the task takes the request out of its batch within a step."""
        called, request = perf_counter(), Request(**options)
        cancellation = Cancellation(request.cancellation)
        if self._model._engine is None:  # to open it takes long; to read a text takes less time than a thread
            with self._news:
                self._check()
            await in_thread(self._model._opened, abandon=cancellation.cancel)
        future = self._submit(source, replace(request, cancellation=cancellation), called)
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

    def _submit(self, source: Input, request: Request, called: float) -> Future[Result]:
        with self._news:
            self._check()  # before the text is read, which takes longer
        engine = self._model._opened()
        job = engine.read(source, request, called=called)
        waiting = _Waiting(job, engine.plan(request), _kind(request))
        with self._news:
            self._check()
            self._waiting.append(waiting)
            self._news.notify()
        return waiting.future

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
        taken: list[_Waiting] = []
        try:
            while taken := self._next_batch():
                self._answer([waiting for waiting in taken if waiting.future.set_running_or_notify_cancel()])
                with self._news:
                    taken = self._take(lambda waiting: waiting.job.halted() is not None)
                for waiting in taken:
                    if waiting.future.set_running_or_notify_cancel():
                        self._answer([waiting])
        except BaseException as error:  # such as that of a future's callback which ends its thread
            self._give_up(taken, error)
            raise

    def _give_up(self, taken: Sequence[_Waiting], cause: BaseException) -> None:
        """Close the queue and tell all who wait: nobody is left to answer them."""
        with self._news:
            self._closed = True
            left, self._waiting = [*taken, *self._waiting], deque()
        for waiting in left:
            error = RuntimeUnavailableError(f"expected a BatchQueue that answers, found it ended by {cause!r}; make another")
            error.__cause__ = cause
            with suppress(BaseException):  # it was answered or cancelled before, or its callbacks raise too
                waiting.future.set_exception(error)

    def _take(self, which: Callable[[_Waiting], bool], most: int | None = None) -> list[_Waiting]:
        """Take requests out of the queue, the oldest first and no more than so many; call with the lock."""
        taken = list(islice(filter(which, self._waiting), most))
        gone = set(taken)
        self._waiting = deque(waiting for waiting in self._waiting if waiting not in gone)
        return taken

    def _next_batch(self) -> list[_Waiting]:
        """The oldest request and those that may run with it; nothing when the queue is closed and empty."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            kind = self._waiting[0].kind
            return self._take(lambda waiting: waiting.kind == kind, self._max_batch)

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        try:
            results = self._model._opened().answer([waiting.job for waiting in batch], batch[0].plan)
        except BaseException as error:
            if len(batch) == 1:
                batch[0].future.set_exception(bearable(error))
                return
            finished = answers_before(error)
            for number, waiting in enumerate(batch):  # one of those left is to blame, and the others are not
                if number in finished:
                    waiting.future.set_result(finished[number])
                else:
                    self._answer([waiting])
        else:
            for waiting, result in zip(batch, results, strict=True):
                waiting.future.set_result(result)


def _kind(request: Request) -> Hashable:
    """What must be alike in requests that run together, in values that can be compared without a surprise.

    Deadlines and cancellations are each request's own and stand in its job; callbacks are alike where they are the same.

    Raises:
        InputError: a form that is none, or an option that is no plain value.
    """
    wanted = request.constraints or Constraints()
    kind = (
        replace(request, deadline_s=None, cancellation=None, constraints=None, on_gate=None),
        _same(request.on_gate),
        replace(wanted, json_schema=None, allowed=None),
        wanted.schema_text,
        _same(wanted.allowed),
    )
    try:
        hash(kind)
    except TypeError as error:
        raise InputError(f"expected options that can be held against those of other requests, found: {error}") from None
    return kind


def _same(callback: Callable[..., object] | None) -> Hashable:
    """A callback's identity; a bound method is made anew whenever it is asked for, and is compared by its object's."""
    return callback if callback is None or isinstance(callback, MethodType) else id(callback)

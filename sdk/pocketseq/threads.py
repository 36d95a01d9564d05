"""Blocking work for asynchronous callers, each in a thread of its own: a shared pool would make calls wait for one another."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio  # below only where somebody calls from an event loop, so that nobody else waits for it

T = TypeVar("T")


async def in_thread(work: Callable[[], T], *, abandon: Callable[[], None]) -> T:
    """Run blocking work without blocking the event loop.

    Args:
        work: What runs.
        abandon: Called where the caller is cancelled, to tell the work that nobody waits for it.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            value = work()
        except BaseException as error:
            _tell(loop, _fail, done, error)
        else:
            _tell(loop, _succeed, done, value)

    threading.Thread(target=copy_context().run, args=(run,), name="pocketseq-call", daemon=True).start()
    try:
        return await done
    except asyncio.CancelledError:
        abandon()
        raise


async def iterated(items: Generator[T, None, None], *, abandon: Callable[[], None]) -> AsyncGenerator[T, None]:
    """Iterate a blocking generator without blocking the event loop; it is closed when the consumer leaves.

    Args:
        items: What runs.
        abandon: Called where the consumer leaves early.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    news: asyncio.Queue[tuple[T | None, BaseException | None]] = asyncio.Queue()
    left = threading.Event()

    def run() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                _tell(loop, news.put_nowait, (item, None))
                if left.is_set():
                    break
        except BaseException as raised:
            error = raised
        finally:
            items.close()
        _tell(loop, news.put_nowait, (None, error or StopAsyncIteration()))

    threading.Thread(target=copy_context().run, args=(run,), name="pocketseq-call", daemon=True).start()
    finished = False
    try:
        while True:
            item, error = await news.get()
            if item is not None:
                yield item
                continue
            finished = True
            if isinstance(error, StopAsyncIteration) or error is None:
                return
            raise error
    finally:
        if not finished:
            left.set()
            abandon()


def bearable(error: BaseException) -> BaseException:
    """The error as a future of asyncio can bear it: StopIteration, which it cannot, becomes a RuntimeError (as in PEP 479)."""
    if not isinstance(error, StopIteration):
        return error
    told = RuntimeError("expected an answer, found that a callback raised StopIteration")
    told.__cause__ = error
    return told


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
        loop.call_soon_threadsafe(callback, *arguments)


def _succeed(done: asyncio.Future[T], value: T) -> None:
    if not done.done():
        done.set_result(value)


def _fail(done: asyncio.Future[T], error: BaseException) -> None:
    if not done.done():
        done.set_exception(bearable(error))

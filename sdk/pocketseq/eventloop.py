"""An event loop in a thread of its own, so that a blocking call can be given up at any moment."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")

_END_S: Final = 1.0
"""Seconds that ending well may take."""


class BackgroundLoop:
    """Runs coroutines for blocking callers; its thread ends when the object is closed or forgotten."""

    def __init__(
        self,
        name: str,
        *,
        at_end: Callable[[], Awaitable[object]],
        on_connection: Callable[[asyncio.Transport], object] | None = None,
    ) -> None:
        """Start the thread.

        Args:
            name: Name of the thread.
            at_end: Run in it when all else has been cancelled, such as to close connections; must not refer to this object.
            on_connection: Told of every connection, in the context of the coroutine that opens it.
        """
        self._loop = asyncio.new_event_loop()
        if on_connection is not None:
            _tell_of_connections(self._loop, on_connection)
        self._thread = threading.Thread(target=_serve, args=(self._loop, at_end), name=name, daemon=True)
        self._thread.start()
        self._stop = weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)

    def run(self, work: Coroutine[Any, Any, T], *, timeout_s: float) -> T:
        """Wait for a coroutine's result for so long and no longer; what is not done by then is cancelled.

        A timeout of the socket bounds one read; a server that sends a byte now and then would be waited for without end.

        Raises:
            TimeoutError: no result in time.
            concurrent.futures.CancelledError: the loop is closed, or was closed meanwhile.
        """
        try:
            future = self.start(_outcome(work))
        except CancelledError:
            work.close()
            raise
        try:
            outcome = future.result(max(timeout_s, 0.0))
        finally:
            future.cancel()
        if isinstance(outcome, _Failure):
            raise outcome.error
        return outcome

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine; its future can be waited for and cancelled from any thread.

        Raises:
            concurrent.futures.CancelledError: the loop is closed.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            raise CancelledError from None

    def close(self) -> None:
        """Cancel what still runs and end the thread."""
        self._stop()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a coroutine raised."""

    error: Exception


async def _outcome(work: Coroutine[Any, Any, T]) -> T | _Failure:
    """Hand back what is raised: in the moment in which its caller gives up nobody would take it, and the loop would log that."""
    try:
        return await work
    except Exception as error:
        return _Failure(error)


def _tell_of_connections(loop: asyncio.AbstractEventLoop, on_connection: Callable[[asyncio.Transport], object]) -> None:
    create = loop.create_connection

    async def create_connection(*args: Any, **options: Any) -> Any:
        transport, protocol = await create(*args, **options)
        on_connection(transport)
        return transport, protocol

    loop.create_connection = create_connection  # type: ignore[method-assign]


def _serve(loop: asyncio.AbstractEventLoop, at_end: Callable[[], Awaitable[object]]) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()
        runner.run(_end(at_end))


async def _end(at_end: Callable[[], Awaitable[object]]) -> None:
    """Cancel what runs, and close only then: a request under way would connect anew, and nobody would close that."""
    while running := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    with suppress(Exception):  # what does not close well, or not in time, ends with the process
        await asyncio.wait_for(at_end(), _END_S)

"""Asking without blocking an event loop: the model works in a thread, and stops when nobody waits for it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from time import perf_counter
from typing import TypeVar

from pocketseq.decoding.cancellation import Cancellation
from pocketseq.options import Options, Request, request_of
from pocketseq.results import Result
from pocketseq.threads import in_thread

T = TypeVar("T")


async def asked(ask: Callable[[Request, float], T], options: Options) -> T:
    """Ask in a thread; when the task is cancelled the answer ends after the step that is under way.

    Args:
        ask: Answers a request, blocking; told ``perf_counter`` at the call, from which the deadline counts.
        options: As the caller gave them.

    Raises:
        InputError: an option out of its range, or two that exclude each other; and what ``ask`` raises.
    """
    called, request = perf_counter(), request_of(options)
    cancellation = Cancellation(request.cancellation)
    request = replace(request, cancellation=cancellation)
    return await in_thread(lambda: ask(request, called), abandon=cancellation.cancel)


class AsyncAnswer:
    """The pieces of one answer; ``async for`` over it, and close it to stop the model."""

    def __init__(self, ask: Callable[[Request, float], Generator[str, None, Result]], options: Options, *, later: bool) -> None:
        """Check the input and the options; the model begins with the first piece.

        Args:
            ask: Makes the blocking stream of a request; told ``perf_counter`` at the call, from which the deadline counts.
            options: As the caller gave them.
            later: Ask with the first piece, in its thread, for that may take long.

        Raises:
            InputError: see ``PocketModel.stream``.
        """
        self.result: Result | None = None
        """The whole result, once the last piece has come."""
        called, request = perf_counter(), request_of(options)
        self._cancellation = Cancellation(request.cancellation)
        request = replace(request, cancellation=self._cancellation)
        self._pieces = _later(lambda: ask(request, called)) if later else ask(request, called)
        self._working = threading.Lock()

    def __aiter__(self) -> AsyncAnswer:
        return self

    async def __anext__(self) -> str:
        piece = await in_thread(self._next, abandon=self._cancellation.cancel)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Stop the model; what is under way is waited for."""
        self._cancellation.cancel()
        await in_thread(self._close, abandon=self._cancellation.cancel)

    def _next(self) -> str | None:
        with self._working:  # a thread whose caller was cancelled may still be in the generator
            try:
                return next(self._pieces)
            except StopIteration as end:
                self.result = end.value if end.value is not None else self.result
                return None

    def _close(self) -> None:
        with self._working:
            self._pieces.close()


def _later(ask: Callable[[], Generator[str, None, Result]]) -> Generator[str, None, Result]:
    return (yield from ask())

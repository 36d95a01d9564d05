"""The loop behind an endpoint: it ends in order, closed or forgotten."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import CancelledError
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import pytest

from pocketseq.eventloop import BackgroundLoop


def test_what_runs_is_cancelled_before_the_end() -> None:
    """Connections are closed when nobody is left who could open another."""
    happened: list[str] = []
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            happened.append("cancelled")

    async def close() -> None:
        happened.append("closed")

    loop = BackgroundLoop("test", at_end=close)
    future = loop.start(work())
    assert begun.wait(30)
    loop.close()
    assert happened == ["cancelled", "closed"]
    with pytest.raises(CancelledError):
        future.result(30)


def test_what_fails_when_nobody_waits_any_more_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Transports turn a cancellation that meets their own timeout into an error, which the caller, long gone, does not take."""

    async def fail(after_s: float) -> None:
        try:
            await asyncio.sleep(after_s)
        finally:
            raise OSError("too late")

    async def close() -> None:
        """Nothing is open."""

    loop = BackgroundLoop("test", at_end=close)
    with pytest.raises(TimeoutError):
        loop.run(fail(60), timeout_s=0.1)
    with pytest.raises(OSError, match="too late"):
        loop.run(fail(0), timeout_s=30)
    loop.close()
    gc.collect()
    assert caplog.records == []


def test_a_forgotten_loop_ends_too() -> None:
    """Its thread closes what it has opened when the last reference is gone."""
    closed = threading.Event()

    async def close() -> None:
        closed.set()

    loop = BackgroundLoop("test", at_end=close)
    del loop
    assert closed.wait(30)


def test_an_end_that_fails_is_an_end() -> None:
    """A connection that does not close well keeps nobody waiting and raises nothing."""

    async def close() -> None:
        raise OSError("gone already")

    loop = BackgroundLoop("test", at_end=close)
    loop.close()
    with pytest.raises(CancelledError):
        loop.run(asyncio.sleep(0), timeout_s=1)


def test_connections_are_told_to_who_opens_them(server: Any) -> None:
    """Each in the context of the coroutine that opened it, so that it can be told whose it is."""
    opened: dict[str, asyncio.Transport] = {}
    opener: ContextVar[str] = ContextVar("opener")

    async def connect(name: str) -> asyncio.Transport:
        opener.set(name)
        url = urlsplit(server.url)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, url.hostname, url.port)
        return transport

    async def close() -> None:
        for transport in opened.values():
            transport.abort()

    loop = BackgroundLoop("test", at_end=close, on_connection=lambda transport: opened.update({opener.get(): transport}))
    found = {name: loop.run(connect(name), timeout_s=30) for name in "ab"}
    loop.close()
    assert found == opened
    assert opened["a"] is not opened["b"]

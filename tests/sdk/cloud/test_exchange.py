"""One request: the connections that were opened for it do not outlive it unless they are of use to another."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pocketseq.cloud import CloudEndpoint
from pocketseq.errors import EndpointServerError, EndpointUnavailableError
from pocketseq.exchange import Exchange, on_connection, on_response


class Connection:
    """Remembers that it was broken off."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


async def ask(connection: Connection, *, answered: bool, raised: BaseException | None = None) -> None:
    with Exchange("https://host/v1", None):
        on_connection(cast("asyncio.Transport", connection))
        if answered:
            await on_response(SimpleNamespace())
        if raised is not None:
            raise raised


@pytest.fixture
def connection() -> Connection:
    return Connection()


def test_a_connection_that_brought_an_answer_is_kept(connection: Connection) -> None:
    """The next request goes over it."""
    asyncio.run(ask(connection, answered=True))
    assert not connection.aborted


def test_a_connection_that_brought_none_is_broken_off(connection: Connection) -> None:
    """The transport may have forgotten it: out of time while it opened."""
    asyncio.run(ask(connection, answered=False))
    assert connection.aborted


def test_a_connection_of_a_cancelled_call_is_broken_off(connection: Connection) -> None:
    """Even if the answer had begun: its end was not read."""
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(ask(connection, answered=True, raised=asyncio.CancelledError()))
    assert connection.aborted


def test_a_refusal_leaves_the_connection_for_the_next_request(server: Any) -> None:
    """A retry after a status of 503 does not pay for another handshake."""
    server.answer({"error": {"message": "later"}}, status=503)
    ports: set[int] = set()
    answer = server.behave

    def behave(handler: Any) -> None:
        ports.add(handler.client_address[1])
        answer(handler)

    server.behave = behave
    with CloudEndpoint(server.url, model="m") as endpoint:
        for _ in range(3):
            with pytest.raises(EndpointServerError):
                endpoint.complete("text")
    assert len(ports) == 1


def test_nothing_leaves_through_a_proxy_that_opens_no_way(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for a connection, not for an answer: what was to go over that stays here, and counts as not sent."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "https_proxy"):  # the second, which this machine may have, goes before the first
        monkeypatch.setenv(name, server.url.removesuffix("/v1"))
    with CloudEndpoint("https://host.example/v1", model="m") as endpoint, pytest.raises(EndpointUnavailableError) as caught:
        endpoint.complete("text")
    assert (caught.value.request_bytes, caught.value.status, server.seen) == (0, None, [])

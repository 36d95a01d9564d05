"""Whether the machine has a network: found out without one packet."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from pocketseq.network import is_offline, leaves_this_network


def test_offline_is_where_no_route_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either family of addresses is enough; nothing but a route is asked for."""
    routes: set[int] = set()

    class Probe:
        def __init__(self, family: int, kind: int) -> None:
            assert kind == socket.SOCK_DGRAM
            self.family = family

        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def connect(self, address: Any) -> None:
            if self.family not in routes:
                raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", Probe)
    assert is_offline()
    for family in (socket.AF_INET, socket.AF_INET6):
        routes = {family}
        assert not is_offline()


@pytest.mark.parametrize(
    ("url", "leaves"),
    [
        ("https://llm.example.com/v1", True),
        ("https://8.8.8.8/v1", True),
        ("https://10.1.2.3/v1", False),
        ("https://gateway/v1", False),
        ("https://llm.corp.internal/v1", False),
        ("https://printer.local/v1", False),
    ],
)
def test_what_needs_a_way_to_the_internet(monkeypatch: pytest.MonkeyPatch, url: str, leaves: bool) -> None:
    """Private addresses and names may be there without one, and so may anything behind a proxy."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert leaves_this_network(url) is leaves
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert not leaves_this_network(url)

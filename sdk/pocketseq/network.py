"""Whether this machine has a network at all, found out without sending anything."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

# Addresses that are kept for documentation (RFC 5737, RFC 3849): routed like any other, and nobody's.
_FAR_AWAY: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_NEAR: Final = ("local", "internal", "lan", "home.arpa", "test")
"""Domains of names that may be found without a way to the internet."""


def is_offline() -> bool:
    """Whether no route leads out of this machine.

    Connecting a datagram socket only asks the system for a route: no packet leaves, no name is looked up.
    """
    return not any(_has_route(family, address) for family, address in _FAR_AWAY)


def leaves_this_network(url: str) -> bool:
    """Whether a request needs a way to the internet: not one to a private address or name, nor one through a proxy."""
    host = urlsplit(url).hostname or ""
    if {"https", "all"} & set(getproxies()):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(tuple(f".{domain}" for domain in _NEAR))


def _has_route(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True

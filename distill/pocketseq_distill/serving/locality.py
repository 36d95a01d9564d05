"""What is of this machine: addresses, and requests that no other site's web page made a browser send."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from pocketseq_distill.serving.problems import ApiError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_local(headers: Headers) -> None:
    """Refuse what a web page of another site may have made a browser of this machine send.

    Such a page can send what it likes, though not read the answer; where it has its own name lead to this machine, it can do both.

    Args:
        headers: Of the request.

    Raises:
        ApiError: status 403: it came by a name that is not of this machine, or from another site.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    name = _name(f"//{host}")
    if not (_is_localhost(name) or _is_address(name)):
        raise ApiError(403, f"expected 'localhost' or an address as Host, found {host[:80]!r}; a server with a key takes any")
    # An origin of another scheme is an application's or an extension's, which a person has installed.
    if origin is not None and (origin == "null" or (origin.startswith(("http:", "https:")) and not _is_own(_name(origin)))):
        raise ApiError(403, f"expected no web page of another site, found {origin[:80]!r} as Origin; a server with a key takes any")


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_own(name: str) -> bool:
    return _is_localhost(name) or is_loopback(name)


def _is_localhost(name: str) -> bool:
    """Whether a name is kept for this machine (RFC 6761, section 6.3): no other site can have one under it."""
    return f".{name.removesuffix('.')}".endswith(".localhost")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

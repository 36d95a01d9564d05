"""A server on a real socket that goes wrong."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from random import Random
from typing import Final

from tests.sdk.cloud.faults.tally import CLOUD, KEY, SECRET, Tally

STATUSES: Final = (301, 307, 400, 401, 403, 404, 408, 409, 413, 418, 422, 429, 500, 502, 503, 504, 599)


def _json(text: object, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}], "model": "m", **more}


def _respond(body: bytes, status: int = 200, kind: str = "application/json", length: int | None = None, extra: str = "") -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{extra}\r\n".encode() + body


def _events(count: int, *, done: bool) -> bytes:
    size = -(-len(CLOUD) // count)
    pieces = [CLOUD[place : place + size] for place in range(0, len(CLOUD), size)]
    chunks: list[object] = [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
    if done:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + (b"data: [DONE]\n\n" if done else b"")


Line = socket.socket


class Faulty:
    """A server on a real socket; each request meets a fault of its own."""

    def __init__(self, random: Random, tally: Tally) -> None:
        self._random = random
        self._tally = tally
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._faults: dict[str, Callable[[Line, bool], None]] = {
            "good": self._good,
            "reset": self._reset,
            "closed": lambda line, streamed: None,
            "silent": lambda line, streamed: self._over.wait(0.2) and None,
            "drip": self._drip,
            "status": self._status,
            "redirect": lambda line, s: line.sendall(_respond(b"", 307, extra="Location: http://127.0.0.2:9/\r\n")),
            "malformed": lambda line, s: line.sendall(_respond(self._random.choice((b"{", b"\xff\xfe", b"", b"<html>", b"[1,")))),
            "schema": lambda line, s: line.sendall(_respond(json.dumps(self._nonsense()).encode())),
            "short": lambda line, s: line.sendall(_respond(b'{"choices": [', length=4000)),
            "no http": lambda line, s: line.sendall(self._random.choice((b"SSH-2.0-x\r\n", b"\0" * 64, b"HTTP/1.1 abc\r\n\r\n"))),
            "half stream": lambda line, s: line.sendall(_respond(_events(4, done=False), kind="text/event-stream")),
            "broken stream": lambda line, s: line.sendall(_respond(b"data: {oops\n\n", kind="text/event-stream")),
            "whole stream": lambda line, s: line.sendall(_respond(_events(5, done=True), kind="text/event-stream")),
        }

    def __enter__(self) -> Faulty:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: Line) -> None:
        with line:
            try:
                line.settimeout(5)
                while (body := _request(line)) is not None:
                    if SECRET.encode() in body:
                        self._tally.wrong.append("a secret left")
                    fault = self._random.choice(list(self._faults))
                    self._tally.faults[fault] += 1
                    self._faults[fault](line, b'"stream": true' in body or b'"stream":true' in body)
                    if fault not in {"good", "status", "malformed", "schema"}:
                        return
            except OSError:
                return

    def _good(self, line: Line, streamed: bool) -> None:
        body = _events(3, done=True) if streamed else json.dumps(_json(CLOUD)).encode()
        line.sendall(_respond(body, kind="text/event-stream" if streamed else "application/json"))

    def _reset(self, line: Line, streamed: bool) -> None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _drip(self, line: Line, streamed: bool) -> None:
        for byte in _respond(json.dumps(_json(CLOUD)).encode()):
            line.sendall(bytes([byte]))
            if self._over.wait(0.002):
                return

    def _status(self, line: Line, streamed: bool) -> None:
        date = formatdate(time.time() + self._random.choice((-400 * 86400, -60, 0, 1, 60, 400 * 86400)), usegmt=True)
        wishes = ("0", "9", "0.001", "nonsense", "-1", "inf", "nan", "1e300", date)
        wish = self._random.choice(("", *(f"Retry-After: {words}\r\n" for words in wishes)))
        wish += self._random.choice(("", f"Date: {formatdate(time.time(), usegmt=True)}\r\n", "Date: never\r\n"))
        body = json.dumps({"error": {"message": f"Incorrect key {KEY}"}}).encode()
        line.sendall(_respond(body, self._random.choice(STATUSES), extra=wish))

    def _nonsense(self) -> object:
        return self._random.choice((None, 5, "x", [], {}, {"choices": []}, {"choices": [{}]}, _json(5), _json(None)))


def _request(line: Line) -> bytes | None:
    """Body of the next request on a connection; None at its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := line.recv(65536)):
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    sizes = [int(row.split(b":")[1]) for row in head.lower().split(b"\r\n") if row.startswith(b"content-length")]
    while len(body) < sum(sizes):
        if not (more := line.recv(65536)):
            return None
        body += more
    return body

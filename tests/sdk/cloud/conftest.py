"""A server on a real socket that behaves as each test wants, well or badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Seen:
    """A request as the server saw it."""

    path: str
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ScriptedServer:
    """Answers every POST by ``behave``; keeps what it saw."""

    url: str = ""
    behave: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
    seen: list[Seen] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the test; a hanging behaviour waits for it."""

    def answer(self, body: object, *, status: int = 200, content_type: str = "application/json", **headers: str) -> None:
        """Answer every request by this body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()

        def behave(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(content)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)

        self.behave = behave

    def hang(self) -> None:
        """Take every request and never answer."""
        self.behave = lambda handler: self.over.wait(30) and None

    def drip(self) -> None:
        """Answer for ever, a byte at a time."""

        def behave(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
            while not self.over.wait(0.01):
                handler.wfile.write(b" ")

        self.behave = behave

    def break_off(self) -> None:
        """Close the connection in the middle of an answer."""

        def behave(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"choices": [')
            handler.close_connection = True

        self.behave = behave


def chat(text: object, **more: object) -> dict[str, object]:
    """A chat completion as the public contract has it."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None, **more}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


@pytest.fixture
def chat_answer() -> Callable[..., dict[str, object]]:
    return chat


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    script = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            script.seen.append(Seen(self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            try:
                script.behave(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.block_on_close = False
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    yield script
    script.over.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port of this machine on which nothing listens, and that nobody else is given meanwhile."""
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])

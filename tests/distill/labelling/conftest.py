"""Black-box teachers: servers on loopback, a real one and one that follows a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.distill.models import TEMPLATE, make_checkpoint
from tests.distill.serving.conftest import Served, serving
from tests.distill.weights import loud

from pocketseq.budget import Price
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.endpoint import EndpointSettings, EndpointTeacher

PRICE = Price(per_million_prompt_tokens=1.0, per_million_completion_tokens=10.0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``pocketseq serve``'s own server before a tiny checkpoint."""
    model = TeacherModel.load(make_checkpoint(tmp_path_factory.mktemp("served") / "tiny"))
    loud(model.model)
    with serving(model) as found:
        yield found


class Scripted:
    """A server that answers by a function of the body, and counts."""

    def __init__(self, answer: Callable[[dict[str, Any], int], tuple[int, dict[str, Any]] | None]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.most = self.now = 0
        self.late = threading.Event()
        self.retry_after_ms = 1
        lock, script = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    script.bodies.append(body)
                    number = len(script.bodies)
                    script.now += 1
                    script.most = max(script.most, script.now)
                found = answer(body, number)
                with lock:
                    script.now -= 1
                if found is None:
                    script.late.wait(30)
                    self.close_connection = True
                    return
                status, value = found
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.send_header("retry-after-ms", str(script.retry_after_ms))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def teacher(self, *, spent: Path | None = None, **more: Any) -> EndpointTeacher:
        url = f"http://127.0.0.1:{self.server.server_port}/v1"
        return EndpointTeacher(EndpointSettings(**{"url": url, "model": "m", "timeout_s": 5.0, **more}), TEMPLATE, spent=spent)


@pytest.fixture
def script() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def start(answer: Callable[[dict[str, Any], int], tuple[int, dict[str, Any]] | None]) -> Scripted:
        servers.append(Scripted(answer))
        return servers[-1]

    yield start
    for one in servers:
        one.late.set()
        one.server.shutdown()
        one.server.server_close()


def of(served: Served, *, spent: Path | None = None, **more: Any) -> EndpointTeacher:
    settings = EndpointSettings(**{"url": served.url, "model": "tiny", "concurrency": 4, "price": PRICE, **more})
    return EndpointTeacher(settings, TEMPLATE, spent=spent)


def said(
    text: str | None, *, finish: str = "stop", prompt: int = 10, written: int = 5, **message: object
) -> tuple[int, dict[str, Any]]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
    return 200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}

"""A tiny checkpoint behind real HTTP on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from tests.distill.models import make_checkpoint
from tests.distill.weights import loud

from pocketseq.template import Field, Template
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.serving.app import Api
from pocketseq_distill.serving.batcher import Batcher
from pocketseq_distill.serving.decoding import Decoding

TEMPLATE = Template(fields=(Field("before", max_tokens=8), Field("text", max_tokens=24, prefix="<text>")), primary="text")


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    model: TeacherModel
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def client(self, **options: Any) -> openai.OpenAI:
        """OpenAI's own client; it holds the answers to the public contract unless told otherwise."""
        settings = {"api_key": "none", "max_retries": 0, "_strict_response_validation": True}
        return openai.OpenAI(base_url=self.url, **{**settings, **options})

    def lenient_client(self) -> openai.OpenAI:
        """The same without strict validation: the contract forgets that a streamed completion has no reason to end yet."""
        return self.client(_strict_response_validation=False)

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """Post bytes or JSON; give status and decoded answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, content, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


@contextmanager
def serving(model: TeacherModel, *, api_key: str | None = None, max_batch: int = 16) -> Iterator[Served]:
    """Serve a model for as long as the block runs."""
    with (
        Batcher(model, max_batch=max_batch, window_s=0.02) as batcher,
        listening(Api(Decoding(model, batcher), name="tiny", api_key=api_key, local=True)) as port,
    ):
        yield Served(model, port)


@contextmanager
def listening(api: Api) -> Iterator[int]:
    """Put an application behind a port for as long as the block runs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = api.app()
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        listener.listen()
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def serve() -> Callable[..., Any]:
    return serving


@pytest.fixture(scope="session")
def plain_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("served") / "tiny", template=TEMPLATE)


@pytest.fixture(scope="session")
def model(plain_path: Path) -> TeacherModel:
    """Answers with text of its own, different for different inputs."""
    model = TeacherModel.load(plain_path)
    loud(model.model)
    return model


@pytest.fixture(scope="session")
def served(model: TeacherModel) -> Iterator[Served]:
    with serving(model) as served:
        yield served


@pytest.fixture(scope="session")
def served_edits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A checkpoint that answers with edits."""
    model = TeacherModel.load(make_checkpoint(tmp_path_factory.mktemp("edits") / "tiny"))
    loud(model.model)
    with serving(model) as served:
        yield served

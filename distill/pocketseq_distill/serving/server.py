"""The server process: a socket, a model behind it, and a clean end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import PocketSeqError
from pocketseq.pipeline import Recipe
from pocketseq_distill.checkpoints import find_teacher
from pocketseq_distill.serving.app import Answering, Api
from pocketseq_distill.serving.batcher import Batcher
from pocketseq_distill.serving.decoding import Decoding
from pocketseq_distill.serving.locality import is_loopback
from pocketseq_distill.serving.through_text import ThroughText

_GRACE_S = 10
"""How long requests under way may take to end once the server is told to."""


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def serve(
    checkpoint: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    max_batch: int = 16,
    ready: Callable[[str, str], None],
) -> None:
    """Serve a checkpoint until the process is told to end (SIGTERM or Ctrl-C); requests under way are answered first.

    Args:
        checkpoint: A Hugging Face directory, a hub id, the name of a shipped teacher, or a run directory, whose teacher is served.
        host: Address to listen on; loopback unless told otherwise.
        port: 0 takes a free one.
        api_key: Bearer key that requests must carry, if any.
        max_batch: Requests decoded together at most.
        ready: Called with the model's name and the API's URL once requests are taken.

    Raises:
        CheckpointError: the directory holds no usable encoder-decoder.
        PocketSeqError: the address cannot be listened on.
    """
    name = Path(checkpoint).resolve().name if Path(checkpoint).is_dir() else checkpoint
    run = Path(checkpoint) if (Path(checkpoint) / "recipe.toml").is_file() else None
    path = run / "teacher" if run is not None else find_teacher(checkpoint)
    with open_listener(host, port) as listener, open_answering(path, run, max_batch=max_batch) as answering:
        config = uvicorn.Config(
            Api(answering, name=name, api_key=api_key, local=is_loopback(host)).app(),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = _Server(config, lambda: ready(name, url_of(listener)))
        with _ending_quietly():
            server.run(sockets=[listener])


@contextmanager
def open_answering(path: Path, run: Path | None, *, max_batch: int) -> Iterator[Answering]:
    """Open what answers: an encoder-decoder, or the teacher of a run, where that answers through text.

    Args:
        path: Directory of the encoder-decoder.
        run: The run directory that it stands in, if it was a run that was named.
        max_batch: Requests decoded together at most.

    Raises:
        PocketSeqError: the teacher of the run is an endpoint.
        CheckpointError: the directory holds no usable encoder-decoder, or that of a causal model no such.
    """
    recipe = Recipe.read(run / "recipe.toml") if run is not None else None
    if recipe is not None and {"causal", "endpoint", "function"} & set(recipe.table("teacher")):
        with _through_text(recipe, path, max_batch=max_batch) as answering:
            yield answering
        return
    from pocketseq_distill.generation import TeacherModel

    model = TeacherModel.load(path)
    with Batcher(model, max_batch=max_batch) as batcher:
        yield Decoding(model, batcher)


@contextmanager
def _through_text(recipe: Recipe, path: Path, *, max_batch: int) -> Iterator[Answering]:
    """The teacher that a recipe names; what students are cut from, at ``path``, says how a prompt is read."""
    # These bring the libraries of training, seconds that an encoder-decoder need not wait for.
    from pocketseq_distill.labelling.opening import open_teacher
    from pocketseq_distill.teacher import TeacherSettings

    settings = recipe.settings("teacher", TeacherSettings)
    if settings.endpoint is not None:
        raise PocketSeqError(
            f"recipe {recipe.name!r}: expected a teacher that computes here, found an endpoint; ask it at {settings.endpoint.url}, "
            f"or serve {path}, which is what its students are cut from"
        )
    opened = open_teacher(settings, CheckpointCard.read(path).template)
    with closing(opened.teacher):
        yield ThroughText(opened.teacher, opened.template, max_batch=max_batch)


def url_of(listener: socket.socket) -> str:
    """Root of the API behind a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


@contextmanager
def open_listener(host: str, port: int) -> Iterator[socket.socket]:
    """Take an address before the model is loaded: one that is in use is said at once.

    Args:
        host: Address or name to listen on.
        port: 0 takes a free one.

    Raises:
        PocketSeqError: the address cannot be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise PocketSeqError(f"expected an address of this machine as host, found {host!r}: {error}") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen()  # an address that is only bound can be taken a second time
        except OSError as error:
            raise PocketSeqError(
                f"expected to listen on {host} port {port}, found: {error.strerror}; choose another --port"
            ) from None
        yield listener


@contextmanager
def _ending_quietly() -> Iterator[None]:
    """Let SIGTERM end the server without ending the process: uvicorn raises it once more when it is done."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

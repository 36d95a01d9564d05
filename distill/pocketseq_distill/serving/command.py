"""``pocketseq serve``: a checkpoint behind an OpenAI-compatible API."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec

from pocketseq.commands import Command, whole
from pocketseq.errors import MissingExtraError, PocketSeqError


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a directory with an encoder-decoder, a hub id, the name of a shipped teacher, or a run, whose teacher is served",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)")
    parser.add_argument("--port", type=_port, default=8000, help="port to listen on; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--api-key-env", metavar="VAR", help="require the key in this environment variable of every request")
    parser.add_argument(
        "--max-batch", type=_batch, default=16, metavar="N", help="requests decoded together at most (default: %(default)s)"
    )


def run(arguments: Namespace) -> int:
    """Serve until told to end."""
    api_key = _api_key(arguments.api_key_env)
    for module in ("starlette", "torch", "transformers", "uvicorn"):
        if find_spec(module) is None:
            raise MissingExtraError("distill", module)
    from pocketseq_distill.serving.locality import is_loopback
    from pocketseq_distill.serving.server import serve

    if api_key is None and not is_loopback(arguments.host):
        print(
            f"pocketseq: everybody who reaches {arguments.host} can use this model; --api-key-env requires a key", file=sys.stderr
        )
    serve(
        arguments.checkpoint,
        host=arguments.host,
        port=arguments.port,
        api_key=api_key,
        max_batch=arguments.max_batch,
        ready=_announce,
    )
    return 0


def _announce(name: str, url: str) -> None:
    print(f"ready: model {name} at {url} (Ctrl-C ends it)", flush=True)


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        # What was given is not repeated: it may be the key itself.
        raise PocketSeqError(
            "expected a key in the environment variable that --api-key-env names, found none; set it or leave the option out"
        )
    if not (key.isascii() and key.isprintable()):
        raise PocketSeqError("expected a key of printable ASCII characters, which is what a header can carry, found others")
    return key


def _port(text: str) -> int:
    return whole(text, 0, 65535)


def _batch(text: str) -> int:
    return whole(text, 1, 1024)


COMMAND = Command(
    name="serve",
    summary="serve a checkpoint over an OpenAI-compatible HTTP API",
    configure=configure,
    run=run,
)

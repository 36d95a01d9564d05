"""A checkpoint behind real HTTP: ``pocketseq serve`` in a process of its own, for as long as a block runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pocketseq.errors import EndpointUnavailableError

_READY: Final = re.compile(r"^ready: model (?P<model>.+) at (?P<url>http://\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Server:
    """A model that answers on loopback."""

    url: str
    """Root of its API."""
    model: str
    """The name that it is asked for by."""


@contextmanager
def served(checkpoint: Path, *, log: Path, patience_s: float = 120.0) -> Iterator[Server]:
    """Serve a checkpoint on a port of loopback that the system chooses, on one thread like everything that is timed.

    Args:
        checkpoint: The directory to serve.
        log: Where the server writes what it has to say.
        patience_s: How long it may take to load.

    Yields:
        Where it answers.

    Raises:
        EndpointUnavailableError: it ended or was not ready in time; carries the end of its log.
    """
    command = [sys.executable, "-m", "pocketseq", "serve", str(checkpoint), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)  # noqa: S603
        try:
            yield _ready(process, log, patience_s)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: subprocess.Popen[bytes], log: Path, patience_s: float) -> Server:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        said = log.read_text(encoding="utf-8", errors="replace")
        if found := _READY.search(said):
            return Server(url=found["url"], model=found["model"])
        if process.poll() is not None:
            raise EndpointUnavailableError(
                f"expected a server that is ready, found it ended with exit code {process.returncode}: {said[-600:]}"
            )
        time.sleep(0.05)
    raise EndpointUnavailableError(f"expected a server within {patience_s:.0f} s, found none ready; {log} holds what it said")

"""A checkpoint behind real HTTP: ``pocketseq serve`` in a process of its own, for as long as a block runs."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketseq.errors import EndpointUnavailableError

HOST = "127.0.0.1"


@contextmanager
def served(checkpoint: Path, *, log: Path, patience_s: float = 120.0) -> Iterator[str]:
    """Serve a checkpoint on a free port of loopback.

    Args:
        checkpoint: The directory to serve.
        log: Where the server writes what it has to say.
        patience_s: How long it may take to load.

    Yields:
        Root of the API, such as ``http://127.0.0.1:49152/v1``.

    Raises:
        EndpointUnavailableError: it ended or did not answer in time; carries the end of its log.
    """
    port = _free_port()
    command = [sys.executable, "-m", "pocketseq", "serve", str(checkpoint), "--host", HOST, "--port", str(port)]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            _wait(process, port, log, patience_s)
            yield f"http://{HOST}:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if _answers(port):
            return
        time.sleep(0.1)
    state = f"exit code {process.returncode}" if process.poll() is not None else f"no answer within {patience_s:.0f} s"
    tail = log.read_text(encoding="utf-8", errors="replace")[-600:]
    raise EndpointUnavailableError(f"expected a server on {HOST}:{port}, found {state}; its log {log} ends in: {tail}")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/v1/models")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()

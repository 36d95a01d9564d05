"""The parent's end of a measured process."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any, Final

from pocketseq.errors import PocketSeqError
from pocketseq_bench.row import Status

WORKER: Final = ("-m", "pocketseq_bench.worker")
"""What a fresh Python runs."""
_UNAVAILABLE: Final = ("RuntimeUnavailableError", "MissingExtraError")


class SubjectError(PocketSeqError):
    """A measured process cannot go on; becomes the problem of its row."""

    def __init__(self, message: str, *, status: Status) -> None:
        """Say what happened to it.

        Args:
            message: For the row.
            status: Of the row.
        """
        super().__init__(message)
        self.status: Status = status


class Process:
    """A fresh Python that answers requests one by one."""

    def __init__(self, *, patience_s: float) -> None:
        """Start it.

        Args:
            patience_s: A request that takes longer ends the process.
        """
        self._patience_s = patience_s
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the process
        command = [sys.executable, *WORKER]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        )
        self._replies: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Raises:
            SubjectError: it died, raised, or took too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._replies.get(timeout=self._patience_s)
        except queue.Empty:
            self._process.kill()
            self.close()
            raise SubjectError(
                f"expected an answer within {self._patience_s:.0f} s, found none; the process was ended", status="failed"
            ) from None
        except OSError:
            line = ""
        if not line:
            raise SubjectError(self._obituary(), status="crashed")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            status: Status = "unavailable" if reply["error"] in _UNAVAILABLE else "failed"
            words = reply["message"] if status == "unavailable" else f"{reply['error']}: {reply['message']}"
            raise SubjectError(" ".join(words.split())[:600], status=status)
        return reply

    def close(self) -> None:
        """End it."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            try:
                self._process.stdin.close()
                self._process.wait(timeout=5)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        self._reader.join(timeout=5)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None and not stream.closed:
                stream.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(line)
        self._replies.put("")

    def _obituary(self) -> str:
        code = self._process.wait()
        if code == -getattr(signal, "SIGKILL", 9):
            return "the process was killed (SIGKILL), as a system does when memory runs out; try a smaller variant"
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._errors.seek(0)
        said = " ".join(self._errors.read().decode("utf-8", "replace").split())[-300:]
        return f"the process died with {how}" + (f": {said}" if said else "")

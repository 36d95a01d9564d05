"""Who is compared: each in a process of its own, talked to in lines of JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from pocketseq.errors import PocketSeqError

WORKERS: Final = Path(__file__).parent / "workers"
"""Programs that run a contender; they may import what the bench itself never does."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A library and how it is used."""

    name: str
    """In tables and results."""
    program: str
    """File in ``WORKERS``."""
    modules: tuple[str, ...]
    """What must be installed."""
    tokenizer: str = "tokenizers"
    """Which library turns text into tokens, where the contender leaves that to its user."""
    precision: str = "int8"
    """Of the weights, where the contender has a choice."""
    compiled: bool = False
    """Whether it compiles its model at the first inputs, which takes a C++ compiler, and a minute or so that no time contains."""
    reads_fields: bool = False
    """Whether it takes the fields of an input rather than the prompt that a template makes of them."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not installed."""
        found = tuple(module for module in self.modules if find_spec(module) is None)
        return (*found, "a C++ compiler") if self.compiled and not any(map(shutil.which, ("g++", "clang++", "cl"))) else found


OURS: Final = Contender("pocketseq", "serve_pocketseq.py", ("onnxruntime",), reads_fields=True)
CTRANSLATE2: Final = Contender("ctranslate2", "serve_ctranslate2.py", ("ctranslate2", "tokenizers"))
CTRANSLATE2_GUIDE: Final = Contender(
    "ctranslate2, AutoTokenizer", "serve_ctranslate2.py", ("ctranslate2", "transformers"), tokenizer="transformers"
)
CTRANSLATE2_FLOAT32: Final = Contender(
    "ctranslate2, float32", "serve_ctranslate2.py", ("ctranslate2", "tokenizers"), precision="float32"
)
TRANSFORMERS: Final = Contender("transformers", "serve_transformers.py", ("transformers", "torch"))
TRANSFORMERS_COMPILED: Final = replace(TRANSFORMERS, name="transformers, compiled", compiled=True)
CONTENDERS: Final = (OURS, CTRANSLATE2, CTRANSLATE2_FLOAT32, CTRANSLATE2_GUIDE, TRANSFORMERS, TRANSFORMERS_COMPILED)
"""All of them; ours first."""
EXCLUDED: Final[Mapping[str, str]] = {
    "optimum-onnx": "does not install beside transformers 5: its release 0.1.0 asks for transformers<4.58",
}
"""Who is left out, and why."""


class Worker:
    """A contender in a process of its own."""

    def __init__(self, contender: Contender, settings: Mapping[str, Any]) -> None:
        """Start the process; it opens its model while the caller goes on.

        Args:
            contender: Whom to start.
            settings: What its program reads: paths, threads, special tokens; and ``bytecode``, where Python keeps what it has
                compiled, so that a start is one of an installed package whatever the environment says.
        """
        self.contender = contender
        self.compile_s = 0.0
        self.started_s = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed with the worker
        given = {**settings, "tokenizer": contender.tokenizer, "precision": contender.precision, "compiled": contender.compiled}
        command = [sys.executable, str(WORKERS / contender.program), json.dumps(given)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        if "bytecode" in settings:
            environment["PYTHONPYCACHEPREFIX"] = settings["bytecode"]
        self._process = subprocess.Popen(  # noqa: S603 the interpreter that runs this, and a file beside it
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=environment,
        )

    def ask(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        beam: int = 1,
        batch: int = 1,
        tokens: int | None = None,
        draft: bool = False,
    ) -> dict[str, Any]:
        """Let it answer rows.

        Args:
            rows: Each with ``fields``, ``prompt`` and ``ids``.
            beam: Beams; 1 is greedy.
            batch: Rows at a time.
            tokens: Length that every answer is forced to; None lets the model end.
            draft: Whether to verify drafts from the input, which only ours can.

        Returns:
            ``wall_s``, ``cpu_s``, ``tokens`` and ``logprobs``.

        Raises:
            PocketSeqError: the process failed; carries what it wrote to standard error.
        """
        given = rows if self.contender.reads_fields else [row["prompt"] for row in rows]
        request = json.dumps({"rows": list(given), "beam": beam, "batch": batch, "tokens": tokens, "draft": draft})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode("utf-8", "replace")[-800:]
            raise PocketSeqError(f"{self.contender.name}: expected an answer, found exit code {self._process.returncode}: {said}")
        reply: dict[str, Any] = json.loads(line)
        self.compile_s = reply.get("compile_s", 0.0)
        return reply

    def resident_bytes(self) -> int:
        """Memory that the process holds now, what it shares with others included."""
        import psutil

        return int(psutil.Process(self._process.pid).memory_info().rss)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

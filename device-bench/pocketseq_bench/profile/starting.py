"""What a fresh process does before its first answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final

from pocketseq.errors import PocketSeqError
from pocketseq_bench.source import source_text

PACKAGES: Final = ("numpy", "onnxruntime", "tokenizers", "pocketseq")
"""Whose imports are told apart; all others are the standard library's."""
_PROGRAM: Final = """
import json, sys
from time import perf_counter
started = perf_counter()
import numpy, onnxruntime, tokenizers, pocketseq.model, pocketseq.runtimes.onnx
imported = perf_counter()
model = pocketseq.model.PocketModel.load(sys.argv[1], runtime="onnx", precision=sys.argv[2])
loaded = perf_counter()
model.warm_up()
opened = perf_counter()
model.generate(json.loads(sys.argv[3]))
answered = perf_counter()
print(json.dumps({"load": loaded - imported, "open": opened - loaded, "answer": answered - opened}))
"""


def profile_start(source: str | Path, fields: Mapping[str, str], *, precision: str, runs: int) -> dict[str, float]:
    """Start processes one after the other, whose modules are compiled already, as those of an installed package are.

    Args:
        source: A bundle.
        fields: The first input.
        precision: Of the ONNX variant.
        runs: Processes; medians are told.

    Returns:
        Milliseconds: of imports by package, ``python`` for the standard library, counted by ``-X importtime``, which makes them a
        little slower; then ``load``, ``open`` and ``answer``.

    Raises:
        PocketSeqError: a process failed; carries the end of what it wrote to standard error.
    """
    taken: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        environment = compiled_once(Path(folder))
        command = [sys.executable, "-X", "importtime", "-c", _PROGRAM, source_text(source), precision, json.dumps(dict(fields))]
        for _ in range(runs + 1):
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
            if done.returncode != 0:
                raise PocketSeqError(f"{source}: expected a process that answers, found: {done.stderr.strip()[-400:]}")
            laps = {name: 1000 * seconds for name, seconds in json.loads(done.stdout).items()}
            taken.append({**imports_ms(done.stderr), **laps})
    return {name: median(one[name] for one in taken[1:]) for name in taken[0]}


def compiled_once(folder: Path) -> dict[str, str]:
    """The environment of processes that keep what they have compiled in a folder, as an installed package does beside it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {"PYTHONPYCACHEPREFIX": str(folder)}


def imports_ms(report: str) -> dict[str, float]:
    """Sum up what ``-X importtime`` wrote: milliseconds by package, each module's own time alone."""
    found = dict.fromkeys(("python", *PACKAGES), 0.0)
    for line in report.splitlines():
        own, _, module = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            package = module.rpartition("|")[2].strip().partition(".")[0]
            found[package if package in PACKAGES else "python"] += int(own) / 1000
    return found

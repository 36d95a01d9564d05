"""What a fresh process waits for: importing the SDK, loading a bundle, the first suggestion."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pocketseq.errors import PocketSeqError

_PROBE: Final = """
import json, sys, time
started = time.perf_counter()
from pocketseq import PocketModel
imported = time.perf_counter()
request = json.load(sys.stdin)
ready = time.perf_counter()
model = PocketModel.load(request["bundle"], runtime=request["runtime"], precision=request["precision"])
model.warm_up()
loaded = time.perf_counter()
model.generate(request["fields"])
answered = time.perf_counter()
seconds = {"import_ms": imported - started, "load_ms": loaded - ready, "first_suggestion_ms": answered - loaded}
print(json.dumps({name: 1000 * duration for name, duration in seconds.items()}))
"""


@dataclass(frozen=True, slots=True)
class Startup:
    """Times of a fresh process, the interpreter's own start not included."""

    import_ms: float
    """``from pocketseq import PocketModel``, with numpy and all else that it brings."""
    load_ms: float
    """Checking hashes, opening tokenizer and runtime."""
    first_suggestion_ms: float
    """The first answer, which the runtime may still prepare for."""

    @property
    def total_ms(self) -> float:
        """From nothing to the first answer."""
        return self.import_ms + self.load_ms + self.first_suggestion_ms


def measure_startup(bundle: str, *, runtime: str, precision: str, fields: Mapping[str, str], repetitions: int = 3) -> Startup:
    """Start fresh processes and take the median of each time.

    Args:
        bundle: What ``PocketModel.load`` takes.
        runtime: Of the variant.
        precision: Of the variant.
        fields: The input of the first suggestion.
        repetitions: Processes to start; an odd number.

    Raises:
        PocketSeqError: a process failed; carries what it wrote to standard error.
    """
    request = json.dumps({"bundle": bundle, "runtime": runtime, "precision": precision, "fields": dict(fields)})
    runs = [_run(request) for _ in range(repetitions)]
    medians = {name: sorted(run[name] for run in runs)[repetitions // 2] for name in runs[0]}
    return Startup(**{name: round(duration, 2) for name, duration in medians.items()})


def _run(request: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", _PROBE], input=request, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise PocketSeqError(
            f"expected a first suggestion from a fresh process, found exit code {done.returncode}: {done.stderr[-800:]}"
        )
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times

"""The process that is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from pocketseq_bench.measuring.processes import WORKER

_LOOK: Final = "import json, runpy, sys; runpy.run_module(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"


def test_nothing_heavy_is_there_before_the_clock_starts() -> None:
    """What a start waits for is imported while it is timed, and not on the way to the worker."""
    done = subprocess.run([sys.executable, "-c", _LOOK, WORKER[1]], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "pocketseq_bench" in loaded
    assert not {"numpy", "pocketseq", "onnxruntime", "tokenizers", "psutil"} & loaded

"""The floor under a start: the same libraries and graphs without the SDK, run once by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from pocketseq.errors import PocketSeqError
from pocketseq.manifest import Geometry
from pocketseq.runtimes.silent import SILENCE
from pocketseq_bench.profile.opening import greedy_graphs
from pocketseq_bench.profile.starting import compiled_once
from pocketseq_bench.source import source_text

_WHOLE: Final = """
import json, sys, time
from pocketseq import PocketModel
given = json.loads(sys.argv[1])
named = {"graph_cache": given["cache"]} if len(sys.argv) > 2 else {}
PocketModel.load(given["bundle"], runtime="onnx", precision=given["precision"], **named).generate(given["fields"])
print(time.time())
"""
_BY_HAND: Final = """
import json, sys, time
import numpy as np, onnxruntime as ort
from tokenizers import Tokenizer
given = json.loads(sys.argv[1])
tokenizer = Tokenizer.from_file(given["tokenizer"])
tokenizer.encode(given["text"])
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
encode, greedy = (ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in given["graphs"])
ids = np.array([given["ids"]], dtype=np.int64)
mask = np.ones_like(ids)
names = [output.name for output in encode.get_outputs()]
memory = dict(zip(names, encode.run(names, {"input_ids": ids, "attention_mask": mask})))
numbers = {name: np.array([given[name]], dtype=np.int64) for name in ("limit", "end_id")}
feeds = {"attention_mask": mask, "token_ids": np.array([[given["start_id"]]]), "position": np.array([0]), **numbers, **memory}
wanted = [node.name for node in greedy.get_inputs()]
empty = np.empty((1, given["heads"], 0, given["head_dim"]), dtype=np.float32)
found, *_ = greedy.run(["ids"], {name: feeds.get(name, empty) for name in wanted})
tokenizer.decode(found[0].tolist())
print(time.time())
"""
_PROGRAMS: Final = {
    "python": "import time; print(time.time())",
    "numpy": "import time, numpy; print(time.time())",
    "by_hand": _BY_HAND,
    "pocketseq": _WHOLE,
    "pocketseq_kept": _WHOLE,
}


def profile_floor(
    bundle: str | Path,
    fields: Mapping[str, str],
    *,
    ids: Sequence[int],
    files: Mapping[str, Path],
    tokenizer: Path,
    geometry: Geometry,
    precision: str,
    limit: int,
    runs: int,
) -> dict[str, float]:
    """Start processes in turns, whose modules are compiled already.

    Args:
        bundle: What the SDK loads.
        fields: The first input.
        ids: The same in tokens, for who runs the graphs by hand.
        files: Of the variant, ``encode.onnx`` and ``greedy.onnx`` among them.
        tokenizer: The bundle's ``tokenizer.json``.
        geometry: Sizes and special tokens.
        precision: Of the ONNX variant.
        limit: Tokens at most.
        runs: Processes of each kind.

    Returns:
        Median milliseconds from nothing to: an interpreter that runs (``python``), numpy imported (``numpy``), the first answer of
        the libraries without the SDK, of files that nobody verified (``by_hand``), of the SDK (``pocketseq``), and of the SDK with
        a cache of graphs that an earlier process filled (``pocketseq_kept``).

    Raises:
        PocketSeqError: a process failed; carries the end of what it wrote to standard error.
    """
    given: dict[str, Any] = {
        "bundle": source_text(bundle),
        "precision": precision,
        "fields": dict(fields),
        "text": "".join(fields.values()),
        "ids": list(ids),
        "tokenizer": str(tokenizer),
        "graphs": [str(path) for path in greedy_graphs(files)],
        "limit": limit,
        **{name: getattr(geometry, name) for name in ("start_id", "end_id", "heads", "head_dim")},
    }
    taken: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        environment = compiled_once(Path(folder, "modules")) | {SILENCE: "1"}
        given["cache"] = str(Path(folder, "graphs"))
        for _ in range(runs + 1):
            for name, code in _PROGRAMS.items():
                started = time.time()
                done = subprocess.run(  # noqa: S603
                    [sys.executable, "-c", code, json.dumps(given), *(["kept"] if name == "pocketseq_kept" else [])],
                    capture_output=True,
                    text=True,
                    check=False,
                    env=environment,
                )
                if done.returncode != 0:
                    raise PocketSeqError(f"{bundle}: expected a process that answers, found: {done.stderr.strip()[-400:]}")
                taken[name].append(1000 * (float(done.stdout) - started))
    return {name: median(times[1:]) for name, times in taken.items()}

"""What a shortlist of tokens could bring at best: the same answers' worth of work with a small output layer, in turns."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any, Final

import numpy as np

from pocketseq.errors import PocketSeqError
from pocketseq.manifest import Geometry
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq.runtimes.protocol import Ids
from pocketseq_bench.rivals.field import program

SHORTLIST: Final = 512
"""Tokens, where there are more; as many as a shortlist for one input usually has."""


def profile_shortlist(
    files: Mapping[str, Path], geometry: Geometry, sources: Sequence[Ids], lengths: Sequence[int], *, rounds: int
) -> dict[str, Any]:
    """Measure encoder and loop with the whole output layer and with a small one.

    Args:
        files: Of the variant, by path within the bundle.
        geometry: Of the model.
        sources: Token ids of inputs, int64 [1, source] each.
        lengths: Tokens of the answer to each: both graphs go on for as many.
        rounds: How often each input is answered.

    Returns:
        JSON values: ``tokens`` of the small layer, and ``ratio``, how many times as fast it was (median over rounds), or null with
        the ``reason``.
    """
    tokens = min(SHORTLIST, geometry.vocab_size // 2)
    start = np.array([[geometry.start_id]], dtype=np.int64)
    name = next(name for name in files if name.endswith("greedy.onnx"))
    greedy = files[name]
    with tempfile.TemporaryDirectory() as folder:
        for path in files.values():
            if path.parent == greedy.parent and path.suffix == ".bin":
                shutil.copy(path, folder)
        small = Path(folder) / greedy.name
        try:
            program("cut_output.py", str(greedy), str(small), str(tokens), expected="a graph that can be cut, and onnx installed")
        except PocketSeqError as error:
            return {"tokens": tokens, "ratio": None, "reason": str(error)}
        encoding = OnnxRuntime(files, geometry)
        runtimes = {"whole": encoding, "short": OnnxRuntime({**files, name: small}, geometry)}
        taken: dict[str, list[float]] = {kind: [] for kind in runtimes}
        for _ in range(rounds + 1):
            for kind, runtime in runtimes.items():
                began = thread_time()
                for ids, length in zip(sources, lengths, strict=True):
                    memory = encoding.encode(ids, np.ones_like(ids))
                    runtime.greedy(start, memory, runtime.start(1), end_id=-1, limit=length)
                taken[kind].append(thread_time() - began)
    pairs = list(zip(taken["whole"], taken["short"], strict=True))[1:]  # the first round warms up
    return {"tokens": tokens, "ratio": median(whole / short for whole, short in pairs), "reason": None}

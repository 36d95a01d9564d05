"""What a cache of graphs spares: graphs opened as they ship, from the SDK's cache, and from copies that onnxruntime wrote."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

from pocketseq.errors import DataError
from pocketseq.files import sha256
from pocketseq.manifest import Geometry
from pocketseq.runtimes.graphs import GraphCache
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq.runtimes.sessions import find_graph
from pocketseq.runtimes.silent import silent_onnxruntime

GRAPHS: Final = ("encode.onnx", "greedy.onnx")
"""What a greedy answer needs."""
_SMALL_BYTES: Final = 4096
"""Tensors below this stay in a copy's graph."""


def profile_opening(files: Mapping[str, Path], geometry: Geometry, *, runs: int) -> dict[str, float]:
    """Open the graphs of a greedy answer again and again, on one thread.

    Copies lie in a temporary folder, less deep than most bundles: onnxruntime resolves the path of every tensor in a file, which is
    a part of what they spare.

    Args:
        files: Verified files of a variant.
        geometry: Sizes of the model.
        runs: How often; medians are told.

    Returns:
        ``shipped_ms``, ``optimised_ms`` from copies after optimisation, ``laid_out_ms`` from copies whose weights also lie as this
        processor's kernels want them; ``sdk_ms`` by the SDK, and ``kept_ms`` from its cache; ``shipped_bytes``,
        ``laid_out_bytes`` and ``kept_bytes``; and what hashing takes, ``shipped_verify_ms`` and ``laid_out_verify_ms``.
    """
    shipped = greedy_graphs(files)
    with tempfile.TemporaryDirectory() as folder:
        optimised, laid_out = Path(folder, "optimised"), Path(folder, "laid-out")
        for copies, laid in ((optimised, False), (laid_out, True)):
            copies.mkdir()
            for graph in shipped:
                _copy(graph, copies, laid_out=laid)
        taken: dict[str, list[float]] = {"shipped_ms": [], "optimised_ms": [], "laid_out_ms": []}
        for _ in range(runs):
            for name, graphs in zip(
                taken, (shipped, [optimised / name for name in GRAPHS], [laid_out / name for name in GRAPHS]), strict=True
            ):
                started = perf_counter()
                sessions = [_open(graph, optimise=name == "shipped_ms") for graph in graphs]
                taken[name].append(1000 * (perf_counter() - started))
                del sessions
        theirs, cache = list(laid_out.iterdir()), GraphCache(Path(folder, "kept"), "profiled")
        OnnxRuntime(files, geometry, cache=cache).open_decoder(greedy=True)
        by_sdk: dict[str, list[float]] = {"sdk_ms": [], "kept_ms": []}
        for _ in range(runs):
            for name, kept in zip(by_sdk, (None, cache), strict=True):
                started = perf_counter()
                OnnxRuntime(files, geometry, cache=kept).open_decoder(greedy=True)
                by_sdk[name].append(1000 * (perf_counter() - started))
        return {
            **{name: median(times) for name, times in {**taken, **by_sdk}.items()},
            "kept_bytes": _size(cache.folder.iterdir()),
            "shipped_bytes": _size(files.values()),
            "laid_out_bytes": _size(theirs),
            "shipped_verify_ms": _verify_ms(files.values()),
            "laid_out_verify_ms": _verify_ms(theirs),
        }


def greedy_graphs(files: Mapping[str, Path]) -> list[Path]:
    """The encoder and the greedy loop among a variant's files.

    Raises:
        DataError: one of them is missing, as in bundles of before.
    """
    found = [find_graph(files, name) for name in GRAPHS]
    there = [path for path in found if path is not None]
    if len(there) < len(GRAPHS):
        raise DataError(f"expected the graphs {', '.join(GRAPHS)}, found only {sorted(files)}; export the bundle again")
    return there


def _options(*, optimise: bool) -> Any:
    onnxruntime = silent_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if optimise else levels.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return options


def _open(graph: Path, *, optimise: bool) -> Any:
    return silent_onnxruntime().InferenceSession(str(graph), _options(optimise=optimise), providers=["CPUExecutionProvider"])


def _copy(graph: Path, folder: Path, *, laid_out: bool) -> None:
    options = _options(optimise=True)
    options.optimized_model_filepath = str(folder / graph.name)
    entry = options.add_session_config_entry
    entry("session.optimized_model_external_initializers_file_name", f"{graph.name}.weights")
    entry("session.optimized_model_external_initializers_min_size_in_bytes", str(_SMALL_BYTES))
    entry("session.save_external_prepacked_constant_initializers", str(int(laid_out)))
    silent_onnxruntime().InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _size(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _verify_ms(files: Iterable[Path]) -> float:
    started = perf_counter()
    for file in files:
        sha256(file)
    return 1000 * (perf_counter() - started)

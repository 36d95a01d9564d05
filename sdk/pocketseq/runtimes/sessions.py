"""ONNX graphs as sessions of ONNX Runtime, set up for small models and held against the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pocketseq.errors import BundleFormatError, RuntimeUnavailableError
from pocketseq.runtimes.graphs import GraphCache
from pocketseq.runtimes.processor import sums_overflow
from pocketseq.runtimes.silent import silent_onnxruntime


def find_graph(files: Mapping[str, Path], name: str) -> Path | None:
    """The file of that name among a variant's files, by path within the bundle."""
    return next((path for listed, path in files.items() if PurePosixPath(listed).name == name), None)


def open_graph(
    files: Mapping[str, Path],
    name: str,
    *,
    inputs: Iterable[str],
    outputs: Sequence[str],
    threads: int,
    profile: Path | None = None,
    cache: GraphCache | None = None,
) -> Any:
    """Open one graph; its weights stay a mapping of their file.

    Args:
        files: Verified files of the variant, by path within the bundle.
        name: Of the graph's file.
        inputs: Names that it must take, all of them and no other.
        outputs: Names that it must give.
        threads: Threads for one call.
        profile: Where onnxruntime writes how long each node takes, as the beginning of a file's name; None writes nothing.
        cache: Holds what onnxruntime made of the graph before, or is given it; None makes it anew.

    Raises:
        BundleFormatError: missing, or other inputs and outputs.
        RuntimeUnavailableError: onnxruntime refuses it.
    """
    onnxruntime = silent_onnxruntime()
    path = find_graph(files, name)
    if path is None:
        raise BundleFormatError(
            f"expected the graph {name!r} among the variant's files, found {sorted(files)}; export the bundle again"
        )
    expected = set(inputs)

    def differs(session: Any) -> str | None:
        found = {node.name for node in session.get_inputs()}, {node.name for node in session.get_outputs()}
        if found[0] == expected and found[1] >= set(outputs):
            return None
        return (
            f"{path}: expected inputs {sorted(expected)} and outputs {sorted(outputs)}, "
            f"found {sorted(found[0])} and {sorted(found[1])}; export the bundle again"
        )

    if cache is not None:
        with suppress(Exception):  # whatever is wrong with a copy, there is the original
            session = _kept_session(cache, path, threads)
            if session is not None and differs(session) is None:
                return session
    try:
        session = _session(path, _options(threads, profile), cache)
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise RuntimeUnavailableError(
            f"{path}: expected a graph that onnxruntime {onnxruntime.__version__} runs, found: {error}; "
            "upgrade onnxruntime or export the bundle again"
        ) from error
    if difference := differs(session):
        raise BundleFormatError(difference)
    return session


def _options(threads: int, profile: Path | None = None) -> Any:
    onnxruntime = silent_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin cost a small model more than they bring, several times over on a busy machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # More would undo what the graphs say: a sum and a norm in one node are slower over many tokens than two nodes.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if sums_overflow():
        # Weights become unsigned, whose kernels cannot overflow: by an optimisation that is none of the basic ones.
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return options


def _opened(graph: str | bytes, options: Any) -> Any:
    return silent_onnxruntime().InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _session(path: Path, options: Any, cache: GraphCache | None) -> Any:
    """The graph as it ships, and in the cache, where there is one, what onnxruntime made of it."""
    if cache is None:
        return _opened(str(path), options)
    session = None
    with suppress(Exception), cache.aside(path.stem) as aside:
        options.optimized_model_filepath = str(aside)
        session = _opened(str(path), options)
        from pocketseq.runtimes.inlining import inlined

        cache.write(path.stem, _key(cache), inlined(aside.read_bytes(), path.parent))
    if session is None:
        options.optimized_model_filepath = ""
        session = _opened(str(path), options)
    return session


def _kept_session(cache: GraphCache, path: Path, threads: int) -> Any:
    """What the cache holds of the graph, opened over the weights beside the graph; None where it holds nothing."""
    graph = cache.read(path.stem, _key(cache))
    if graph is None:
        return None
    options = _options(threads)
    options.graph_optimization_level = silent_onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent.absolute()))
    return _opened(graph, options)


def _key(cache: GraphCache) -> bytes:
    return cache.key([silent_onnxruntime().__version__, "extended, precise" if sums_overflow() else "basic"])

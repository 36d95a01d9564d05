"""ONNX graphs as sessions of ONNX Runtime, set up for small models and held against the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pocketseq.errors import BundleFormatError, RuntimeUnavailableError
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
) -> Any:
    """Open one graph; its weights stay a mapping of their file.

    The graphs are written fused, so that there is little left to optimise. An optimised copy is not kept: to verify it would take
    longer than it spares (``python -m pocketseq_bench.profile`` measures both).

    Args:
        files: Verified files of the variant, by path within the bundle.
        name: Of the graph's file.
        inputs: Names that it must take, all of them and no other.
        outputs: Names that it must give.
        threads: Threads for one call.
        profile: Where onnxruntime writes how long each node takes, as the beginning of a file's name; None writes nothing.

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
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin cost a small model more than they bring, several times over on a busy machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if sums_overflow():
        options.add_session_config_entry("session.x64quantprecision", "1")
    # More would undo what the graphs say: a sum and a norm in one node are slower over many tokens than two nodes.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise RuntimeUnavailableError(
            f"{path}: expected a graph that onnxruntime {onnxruntime.__version__} runs, found: {error}; "
            "upgrade onnxruntime or export the bundle again"
        ) from error
    expected = set(inputs)
    found = {node.name for node in session.get_inputs()}, {node.name for node in session.get_outputs()}
    if found[0] != expected or not found[1] >= set(outputs):
        raise BundleFormatError(
            f"{path}: expected inputs {sorted(expected)} and outputs {sorted(outputs)}, "
            f"found {sorted(found[0])} and {sorted(found[1])}; export the bundle again"
        )
    return session

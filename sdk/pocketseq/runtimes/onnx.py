"""ONNX Runtime: two graphs over one file of weights, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pocketseq.errors import BundleFormatError, RuntimeUnavailableError
from pocketseq.manifest import Geometry
from pocketseq.runtimes.protocol import Floats, Ids, Step


@dataclass(frozen=True, slots=True)
class OnnxMemory:
    """What the encoder graph gave."""

    feeds: Mapping[str, Any]
    """Inputs of the step graph that stay the same at every step: the mask and each layer's cross keys and values."""
    pooled: Floats
    """float32 [batch, d_model]."""


@dataclass(frozen=True, slots=True)
class OnnxCache:
    """Keys and values of the tokens so far."""

    feeds: Mapping[str, Floats]
    """float32 [batch, heads, tokens, head_dim] for each layer's keys and values, by the step graph's input names."""
    length: int
    """Tokens in the cache."""


class OnnxRuntime:
    """Runs the ``encode`` and ``step`` graphs of a bundle."""

    def __init__(self, files: Mapping[str, Path], geometry: Geometry, *, threads: int = 1) -> None:
        """Open both graphs.

        Args:
            files: Verified files of the variant, by path within the bundle; the graphs are ``encode.onnx`` and ``step.onnx``.
            geometry: Sizes of the model.
            threads: Threads for one call.

        Raises:
            BundleFormatError: a graph is missing or has other inputs and outputs than the contract.
            RuntimeUnavailableError: onnxruntime refuses a graph.
        """
        layers = range(geometry.decoder_layers)
        self._cross = [f"cross_{part}_{layer}" for layer in layers for part in ("key", "value")]
        self._past = [f"self_{part}_{layer}" for layer in layers for part in ("key", "value")]
        new = [f"new_{part}_{layer}" for layer in layers for part in ("key", "value")]
        self._encode_outputs = [*self._cross, "pooled"]
        self._step_outputs = ["logprobs", *new]
        self._empty = (geometry.heads, 0, geometry.head_dim)
        self._encode = _open(files, "encode.onnx", {"input_ids", "attention_mask"}, self._encode_outputs, threads)
        step_inputs = {"token_ids", "position", "attention_mask", *self._cross, *self._past}
        self._step = _open(files, "step.onnx", step_inputs, self._step_outputs, threads)

    def encode(self, input_ids: Ids, attention_mask: Ids) -> OnnxMemory:
        """Run the encoder graph; see ``Runtime.encode``."""
        *cross, pooled = self._encode.run(self._encode_outputs, {"input_ids": input_ids, "attention_mask": attention_mask})
        return OnnxMemory(feeds={"attention_mask": attention_mask, **dict(zip(self._cross, cross, strict=True))}, pooled=pooled)

    def start(self, batch: int) -> OnnxCache:
        """An empty cache; see ``Runtime.start``."""
        return OnnxCache(feeds=dict.fromkeys(self._past, np.empty((batch, *self._empty), dtype=np.float32)), length=0)

    def step(self, token_ids: Ids, memory: OnnxMemory, cache: OnnxCache) -> Step[OnnxCache]:
        """Run the step graph; see ``Runtime.step``."""
        position = np.array([cache.length], dtype=np.int64)
        feeds = {"token_ids": token_ids, "position": position, **memory.feeds, **cache.feeds}
        logprobs, *new = self._step.run(self._step_outputs, feeds)
        # A copy of a few kB a step is what keeps a cache a value that threads and beams can share.
        grown = (
            np.concatenate((old, column), axis=2) if cache.length else column
            for old, column in zip(cache.feeds.values(), new, strict=True)
        )
        feeds_after = dict(zip(self._past, grown, strict=True))
        return Step(logprobs=logprobs, cache=OnnxCache(feeds=feeds_after, length=cache.length + token_ids.shape[1]))

    def select(self, memory: OnnxMemory, cache: OnnxCache, rows: Ids) -> tuple[OnnxMemory, OnnxCache]:
        """Keep rows; see ``Runtime.select``."""
        kept = OnnxMemory(feeds={name: value[rows] for name, value in memory.feeds.items()}, pooled=memory.pooled[rows])
        return kept, OnnxCache(feeds={name: value[rows] for name, value in cache.feeds.items()}, length=cache.length)

    def keep(self, cache: OnnxCache, length: int) -> OnnxCache:
        """Take tokens back; see ``Runtime.keep``."""
        return OnnxCache(feeds={name: value[:, :, :length] for name, value in cache.feeds.items()}, length=length)


def _open(files: Mapping[str, Path], name: str, inputs: set[str], outputs: list[str], threads: int) -> Any:
    """Open one graph and hold its inputs and outputs against the contract."""
    import onnxruntime

    path = next((path for listed, path in files.items() if PurePosixPath(listed).name == name), None)
    if path is None:
        raise BundleFormatError(
            f"expected the graph {name!r} among the variant's files, found {sorted(files)}; export the bundle again"
        )
    onnxruntime.disable_telemetry_events()  # builds for Windows would report use to their maker; nothing leaves the device
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin cost a small model more than they bring, several times over on a busy machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Sums of int8 products overflow on x86 without VNNI unless other kernels are asked for; elsewhere this changes nothing.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise RuntimeUnavailableError(
            f"{path}: expected a graph that onnxruntime {onnxruntime.__version__} runs, found: {error}; "
            "upgrade onnxruntime or export the bundle again"
        ) from error
    found = {node.name for node in session.get_inputs()}, {node.name for node in session.get_outputs()}
    if found[0] != inputs or not found[1] >= set(outputs):
        raise BundleFormatError(
            f"{path}: expected inputs {sorted(inputs)} and outputs {sorted(outputs)}, "
            f"found {sorted(found[0])} and {sorted(found[1])}; export the bundle again"
        )
    return session

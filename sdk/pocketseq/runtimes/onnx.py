"""ONNX Runtime: graphs over one file of weights, on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketseq.manifest import Geometry
from pocketseq.runtimes.protocol import Floats, Ids, Run, Step
from pocketseq.runtimes.sessions import find_graph, open_graph


@dataclass(frozen=True, slots=True)
class OnnxMemory:
    """What the encoder graph gave."""

    feeds: Mapping[str, Any]
    """Inputs of the decoder graphs that stay the same at every step: the mask and each layer's cross keys and values."""
    pooled: Floats
    """float32 [batch, d_model]."""
    rows: Ids
    """Row of ``encode``'s batch that each row came from, int64 [batch]."""


@dataclass(frozen=True, slots=True)
class OnnxCache:
    """Keys and values of the tokens so far."""

    feeds: Mapping[str, Floats]
    """float32 [batch, heads, tokens, head_dim] for each layer's keys and values, by the decoder graphs' input names."""
    length: int
    """Tokens in the cache."""


class OnnxRuntime:
    """Runs the graphs of a bundle: ``encode``, ``step``, and ``greedy`` where the bundle has it."""

    def __init__(self, files: Mapping[str, Path], geometry: Geometry, *, threads: int = 1) -> None:
        """Open the encoder and the decoder that greedy answers need; the other one is opened at the first step that asks for it.

        Args:
            files: Verified files of the variant, by path within the bundle; the graphs are ``encode.onnx``, ``step.onnx`` and, in
                bundles that have it, ``greedy.onnx``.
            geometry: Sizes of the model.
            threads: Threads for one call.

        Raises:
            BundleFormatError: a graph is missing or has other inputs and outputs than the contract.
            RuntimeUnavailableError: onnxruntime refuses a graph.
        """
        self._files, self._threads = files, threads
        self._cross = _names("cross", geometry)
        self._past = _names("self", geometry)
        self._empty = (geometry.heads, 0, geometry.head_dim)
        self._encode_outputs = [*self._cross, "pooled"]
        self._step_outputs = ["logprobs", *_names("new", geometry)]
        self._greedy_outputs = ["ids", "logprobs", *_names("present", geometry)]
        self._lock = threading.Lock()
        self._step: Any = None
        self._greedy: Any = None
        self._encode = self._open("encode.onnx", ("input_ids", "attention_mask"), self._encode_outputs)
        if find_graph(files, "greedy.onnx"):
            self._greedy = self._open(
                "greedy.onnx", ("token_ids", "position", "limit", "end_id", *self._states), self._greedy_outputs
            )
        else:
            self._stepping()

    @property
    def _states(self) -> tuple[str, ...]:
        return ("attention_mask", *self._cross, *self._past)

    def encode(self, input_ids: Ids, attention_mask: Ids) -> OnnxMemory:
        """Run the encoder graph; see ``Runtime.encode``."""
        *cross, pooled = self._encode.run(self._encode_outputs, {"input_ids": input_ids, "attention_mask": attention_mask})
        feeds = {"attention_mask": attention_mask, **dict(zip(self._cross, cross, strict=True))}
        return OnnxMemory(feeds=feeds, pooled=pooled, rows=np.arange(len(input_ids)))

    def start(self, batch: int) -> OnnxCache:
        """An empty cache; see ``Runtime.start``."""
        return OnnxCache(feeds=dict.fromkeys(self._past, np.empty((batch, *self._empty), dtype=np.float32)), length=0)

    def step(self, token_ids: Ids, memory: OnnxMemory, cache: OnnxCache) -> Step[OnnxCache]:
        """Run the step graph; see ``Runtime.step``."""
        position = np.array([cache.length], dtype=np.int64)
        feeds = {"token_ids": token_ids, "position": position, **memory.feeds, **cache.feeds}
        logprobs, *new = self._stepping().run(self._step_outputs, feeds)
        # A copy of a few kB a step is what keeps a cache a value that threads and beams can share.
        grown = (
            np.concatenate((old, column), axis=2) if cache.length else column
            for old, column in zip(cache.feeds.values(), new, strict=True)
        )
        feeds_after = dict(zip(self._past, grown, strict=True))
        return Step(logprobs=logprobs, cache=OnnxCache(feeds=feeds_after, length=cache.length + token_ids.shape[1]))

    def greedy(self, token_ids: Ids, memory: OnnxMemory, cache: OnnxCache, *, end_id: int, limit: int) -> Run[OnnxCache]:
        """Run the greedy graph, or the step graph again and again where a bundle has no other; see ``GreedyRuntime.greedy``."""
        if self._greedy is None:
            return self._greedy_by_steps(token_ids, memory, cache, end_id=end_id, limit=limit)
        numbers = {"position": cache.length, "limit": limit, "end_id": end_id}
        feeds = {name: np.array([number], dtype=np.int64) for name, number in numbers.items()}
        ids, logprobs, *present = self._greedy.run(
            self._greedy_outputs, {"token_ids": token_ids, **feeds, **memory.feeds, **cache.feeds}
        )
        feeds_after = dict(zip(self._past, present, strict=True))
        return Run(ids=ids, logprobs=logprobs, cache=OnnxCache(feeds=feeds_after, length=cache.length + ids.shape[1]))

    def select(self, memory: OnnxMemory, cache: OnnxCache, rows: Ids) -> tuple[OnnxMemory, OnnxCache]:
        """Keep rows; see ``Runtime.select``."""
        kept = OnnxCache(feeds={name: value[rows] for name, value in cache.feeds.items()}, length=cache.length)
        came_from = memory.rows[rows]
        if np.array_equal(came_from, memory.rows):
            return memory, kept  # beams of one source change places at every step: what they read stays where it is
        feeds = {name: value[rows] for name, value in memory.feeds.items()}
        return OnnxMemory(feeds=feeds, pooled=memory.pooled[rows], rows=came_from), kept

    def keep(self, cache: OnnxCache, length: int) -> OnnxCache:
        """Take tokens back; see ``Runtime.keep``."""
        return OnnxCache(feeds={name: value[:, :, :length] for name, value in cache.feeds.items()}, length=length)

    def _greedy_by_steps(self, token_ids: Ids, memory: OnnxMemory, cache: OnnxCache, *, end_id: int, limit: int) -> Run[OnnxCache]:
        ids: list[Ids] = []
        logprobs: list[Floats] = []
        running = np.ones(token_ids.shape, dtype=np.bool_)
        while running.any() and len(ids) < limit:
            step = self.step(token_ids, memory, cache)
            cache, token_ids = step.cache, step.logprobs[:, -1].argmax(axis=-1)[:, None]
            running &= token_ids != end_id
            ids.append(token_ids)
            logprobs.append(np.take_along_axis(step.logprobs[:, -1], token_ids, axis=-1))
        return Run(ids=np.concatenate(ids, axis=1), logprobs=np.concatenate(logprobs, axis=1), cache=cache)

    def _stepping(self) -> Any:
        if self._step is None:
            with self._lock:
                if self._step is None:
                    self._step = self._open("step.onnx", ("token_ids", "position", *self._states), self._step_outputs)
        return self._step

    def _open(self, name: str, inputs: tuple[str, ...], outputs: list[str]) -> Any:
        return open_graph(self._files, name, inputs=inputs, outputs=outputs, threads=self._threads)


def _names(start: str, geometry: Geometry) -> list[str]:
    """Names of every layer's keys and values in the graphs."""
    return [f"{start}_{part}_{layer}" for layer in range(geometry.decoder_layers) for part in ("key", "value")]

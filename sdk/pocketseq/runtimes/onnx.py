"""ONNX Runtime: graphs over one file of weights, on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketseq.errors import BundleFormatError
from pocketseq.manifest import Geometry
from pocketseq.runtimes.graphs import GraphCache
from pocketseq.runtimes.protocol import Floats, Ids, Run, Step, Trellis
from pocketseq.runtimes.sessions import find_graph, open_graph

_DIVISORS = ("lengths", "reaches", "bounds")
_TRELLIS = ["places", "totals", "logprobs"]
_SPREAD = ["entropies", "gaps"]


@dataclass(frozen=True, slots=True)
class OnnxMemory:
    """What the encoder graph gave."""

    feeds: Mapping[str, Any]
    """Inputs of the decoder graphs that stay the same at every step: the mask and each layer's cross keys and values, for each
    source once."""
    pooled: Floats
    """float32 [batch, d_model]."""
    rows: Ids
    """Row of ``encode``'s batch that each row came from, int64 [batch]."""
    sources: Ids
    """Row of ``encode``'s batch that each source in ``feeds`` came from, int64 [sources]; as many rows to each, in this order."""

    def selected(self, rows: Ids, *, shared: bool) -> OnnxMemory:
        """Some rows of it; beams of a source that change places at every step, or become more, leave what they read where it is."""
        if shared and len(self.sources) == 1 and len(rows) == len(self.rows):
            return self
        came_from = self.rows[rows]
        if np.array_equal(came_from, self.rows) and (shared or len(self.sources) == len(self.rows)):
            return self
        pooled = self.pooled[rows]
        each = len(rows) // len(self.sources) if shared else 1
        if np.array_equal(came_from, self.sources.repeat(each)):
            return OnnxMemory(feeds=self.feeds, pooled=pooled, rows=came_from, sources=self.sources)
        places = (rows * len(self.sources)) // len(self.rows)
        feeds = {name: value.take(places, axis=0) for name, value in self.feeds.items()}
        return OnnxMemory(feeds=feeds, pooled=pooled, rows=came_from, sources=came_from)


@dataclass(frozen=True, slots=True)
class OnnxCache:
    """Keys and values of the tokens so far."""

    feeds: Mapping[str, Floats]
    """float32 [batch, heads, tokens, head_dim] for each layer's keys and values, by the decoder graphs' input names."""
    length: int
    """Tokens in the cache."""


class OnnxRuntime:
    """Runs the graphs of a bundle: ``encode``, ``step``, and ``greedy`` and ``beams`` where the bundle has them."""

    def __init__(
        self,
        files: Mapping[str, Path],
        geometry: Geometry,
        *,
        threads: int = 1,
        profile: Path | None = None,
        cache: GraphCache | None = None,
    ) -> None:
        """Open the encoder; each of the other graphs is opened when it is first asked for.

        Args:
            files: Verified files of the variant, by path within the bundle; the graphs are ``encode.onnx``, ``step.onnx`` and, in
                bundles that have them, ``greedy.onnx`` and ``beams.onnx``.
            geometry: Sizes of the model.
            threads: Threads for one call.
            profile: A folder in which onnxruntime writes how long each node takes; see ``end_profiles``.
            cache: Keeps what onnxruntime makes of the graphs; None keeps nothing.

        Raises:
            BundleFormatError: a graph is missing or has other inputs and outputs than the contract; of those that are opened later,
                when they are.
            RuntimeUnavailableError: onnxruntime refuses a graph; likewise.
        """
        # Before the files: what they lie in may be removed with the last reference to them, and some systems remove nothing that
        # a graph still holds.
        self._encode: Any = None
        self._step: Any = None
        self._greedy: Any = None
        self._beams: Any = None
        self._files, self._threads, self._profile, self._cache = files, threads, profile, cache
        self._cross = _names("cross", geometry)
        self._past = _names("self", geometry)
        self._empty = (geometry.heads, 0, geometry.head_dim)
        self._encode_outputs = [*self._cross, "pooled"]
        self._new, self._present = _names("new", geometry), _names("present", geometry)
        self._greedy_outputs = ["ids", "logprobs", *self._present]
        self._lock = threading.Lock()
        # Bundles of before give only the new columns of the cache, and want keys and values of the source beside every row.
        self._grows = False
        self._loops = find_graph(files, "greedy.onnx") is not None
        self._trellis = _TRELLIS
        self._encode = self._open("encode.onnx", ("input_ids", "attention_mask"), self._encode_outputs)
        if not self._loops:  # all that it can do goes step by step
            self._stepping()

    @property
    def _states(self) -> tuple[str, ...]:
        return ("attention_mask", *self._cross, *self._past)

    def encode(self, input_ids: Ids, attention_mask: Ids) -> OnnxMemory:
        """Run the encoder graph; see ``Runtime.encode``."""
        *cross, pooled = self._encode.run(self._encode_outputs, {"input_ids": input_ids, "attention_mask": attention_mask})
        feeds = {"attention_mask": attention_mask, **dict(zip(self._cross, cross, strict=True))}
        rows = np.arange(len(input_ids))
        return OnnxMemory(feeds=feeds, pooled=pooled, rows=rows, sources=rows)

    def start(self, batch: int) -> OnnxCache:
        """An empty cache; see ``Runtime.start``."""
        return OnnxCache(feeds=dict.fromkeys(self._past, np.empty((batch, *self._empty), dtype=np.float32)), length=0)

    def step(self, token_ids: Ids, memory: OnnxMemory, cache: OnnxCache) -> Step[OnnxCache]:
        """Run the step graph; see ``Runtime.step``."""
        session, position = self._stepping(), np.array([cache.length], dtype=np.int64)
        feeds = {"token_ids": token_ids, "position": position, **memory.feeds, **cache.feeds}
        logprobs, *grown = session.run(["logprobs", *(self._present if self._grows else self._new)], feeds)
        if not self._grows and cache.length:
            grown = [np.concatenate(parts, axis=2) for parts in zip(cache.feeds.values(), grown, strict=True)]
        feeds_after = dict(zip(self._past, grown, strict=True))
        return Step(logprobs=logprobs, cache=OnnxCache(feeds=feeds_after, length=cache.length + token_ids.shape[1]))

    def greedy(self, token_ids: Ids, memory: OnnxMemory, cache: OnnxCache, *, end_id: int, limit: int) -> Run[OnnxCache]:
        """Run the greedy graph, or the step graph again and again where a bundle has no other; see ``GreedyRuntime.greedy``."""
        if len(memory.sources) < len(memory.rows):
            memory = memory.selected(np.arange(len(memory.rows)), shared=False)
        if not self._loops:
            return self._greedy_by_steps(token_ids, memory, cache, end_id=end_id, limit=limit)
        numbers = {"position": cache.length, "limit": limit, "end_id": end_id}
        feeds = {name: np.array([number], dtype=np.int64) for name, number in numbers.items()}
        ids, logprobs, *present = self._looping().run(
            self._greedy_outputs, {"token_ids": token_ids, **feeds, **memory.feeds, **cache.feeds}
        )
        feeds_after = dict(zip(self._past, present, strict=True))
        return Run(ids=ids, logprobs=logprobs, cache=OnnxCache(feeds=feeds_after, length=cache.length + ids.shape[1]))

    def beams(
        self,
        token_ids: Ids,
        memory: OnnxMemory,
        cache: OnnxCache,
        *,
        end_id: int,
        count: int,
        answers: int,
        lengths: Floats,
        reaches: Floats,
        bounds: Floats,
    ) -> Trellis | None:
        """Run the graph of whole searches, which bundles of before do not have; see ``BeamRuntime.beams``."""
        if self._beams is None:
            if not find_graph(self._files, "beams.onnx"):
                return None
            inputs = ("token_ids", "position", "limit", "end_id", "count", "answers", *_DIVISORS, *self._states)
            with self._lock:
                if self._beams is None:
                    beams = self._open("beams.onnx", inputs, _TRELLIS)
                    if {output.name for output in beams.get_outputs()}.issuperset(_SPREAD):
                        self._trellis = [*_TRELLIS, *_SPREAD]
                    self._beams = beams
        numbers = {"position": cache.length, "limit": len(lengths), "end_id": end_id, "count": count, "answers": answers}
        feeds = {name: np.array([number], dtype=np.int64) for name, number in numbers.items()}
        found = self._beams.run(
            self._trellis,
            {
                "token_ids": token_ids,
                **dict(zip(_DIVISORS, (lengths, reaches, bounds), strict=True)),
                **feeds,
                **memory.feeds,
                **cache.feeds,
            },
        )
        return Trellis(**dict(zip(self._trellis, found, strict=True)))

    def select(self, memory: OnnxMemory, cache: OnnxCache, rows: Ids) -> tuple[OnnxMemory, OnnxCache]:
        """Keep rows; see ``Runtime.select``."""
        kept = OnnxCache(feeds={name: value.take(rows, axis=0) for name, value in cache.feeds.items()}, length=cache.length)
        return memory.selected(rows, shared=self._grows), kept

    def keep(self, cache: OnnxCache, length: int) -> OnnxCache:
        """Take tokens back; see ``Runtime.keep``."""
        return OnnxCache(feeds={name: value[:, :, :length] for name, value in cache.feeds.items()}, length=length)

    def open_decoder(self, *, greedy: bool) -> None:
        """Open the greedy graph, where a bundle has it, or the step graph; see ``LazyRuntime.open_decoder``."""
        if greedy and self._loops:
            self._looping()
        else:
            self._stepping()

    def end_profiles(self) -> dict[str, Path]:
        """Finish the profiles of the graphs that are open: their files by the graph's name, such as ``encode``."""
        graphs = {"encode": self._encode, "step": self._step, "greedy": self._greedy, "beams": self._beams}
        return {name: Path(session.end_profiling()) for name, session in graphs.items() if session is not None}

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

    def _looping(self) -> Any:
        if self._greedy is None:
            inputs = ("token_ids", "position", "limit", "end_id", *self._states)
            with self._lock:
                if self._greedy is None:
                    self._greedy = self._open("greedy.onnx", inputs, self._greedy_outputs)
        return self._greedy

    def _stepping(self) -> Any:
        if self._step is None:
            with self._lock:
                if self._step is None:
                    step = self._open("step.onnx", ("token_ids", "position", *self._states), ["logprobs"])
                    given = {output.name for output in step.get_outputs()}
                    self._grows = given.issuperset(self._present)
                    if not self._grows and not given.issuperset(self._new):
                        raise BundleFormatError(
                            f"step.onnx: expected outputs {self._present}, found {sorted(given)}; export the bundle again"
                        )
                    self._step = step
        return self._step

    def _open(self, name: str, inputs: tuple[str, ...], outputs: list[str]) -> Any:
        prefix = None if self._profile is None else self._profile / name
        return open_graph(
            self._files, name, inputs=inputs, outputs=outputs, threads=self._threads, profile=prefix, cache=self._cache
        )


def _names(start: str, geometry: Geometry) -> list[str]:
    """Names of every layer's keys and values in the graphs."""
    return [f"{start}_{part}_{layer}" for layer in range(geometry.decoder_layers) for part in ("key", "value")]

"""Core ML on macOS, by coremltools: one input at a time, and a cache that Core ML keeps or that is handed to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from pocketseq.errors import InputError, RuntimeUnavailableError
from pocketseq.manifest import Geometry
from pocketseq.runtimes.compiled import CompiledPrograms, open_programs
from pocketseq.runtimes.macos import CHECK, macos_version
from pocketseq.runtimes.protocol import Floats, Ids, Step
from pocketseq.runtimes.tapes import Prefix, Tape

ComputeUnits: TypeAlias = Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"]
"""Where Core ML may run a program; NE is the neural engine."""

DEFAULT_UNITS: Final[ComputeUnits] = "CPU_AND_GPU"
PADDING: Final = -1
"""Stands where a source has no token."""
MASKED: Final = -1e4
"""Score of a source position that must not be seen; within float16's reach."""


@dataclass(frozen=True, slots=True)
class CoreMlSource:
    """One encoded source."""

    cross: Floats
    """Keys and values of the source for each decoder layer, float32 [2 × layers, heads, padded source, head_dim]."""
    mask: Floats
    """0 where there is a token, ``MASKED`` elsewhere, float32 [1, 1, 1, longest source]."""


@dataclass(frozen=True, slots=True)
class CoreMlMemory:
    """What ``encode`` gave for a batch."""

    sources: tuple[CoreMlSource, ...]
    """One for each row."""
    pooled: Floats
    """float32 [batch, d_model]."""


@dataclass(frozen=True, slots=True)
class CoreMlCache:
    """The tokens so far of every row."""

    rows: tuple[Prefix, ...]
    """One for each row, all of one length."""


class CoreMlRuntime:
    """Runs a package's ``encode`` and ``step``, the rows of a batch one after another.

    A state of Core ML cannot be copied, and a step changes it. Yet caches are values: each prefix keeps the keys and values of its
    own tokens, and knows the tape that it was written on. A step goes on where that tape still ends with the prefix, which is
    the way of greedy decoding; any other gets a new tape, onto which its keys and values are written first.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        geometry: Geometry,
        *,
        threads: int = 1,  # noqa: ARG002 Core ML sees to its threads itself
        compute_units: ComputeUnits = DEFAULT_UNITS,
        compiled: Path | None = None,
    ) -> None:
        """Compile the package, unless that was done before, and load it.

        Args:
            files: Verified files of the variant, by path within the bundle: those of one ``.mlpackage``.
            geometry: Sizes of the model.
            threads: Not used: Core ML sees to its threads itself.
            compute_units: Where Core ML may run it, such as ``CPU_AND_NE``.
            compiled: Folder that keeps compiled programs; None is one of the user's caches.

        Raises:
            RuntimeUnavailableError: not a Mac, or Core ML refuses the package.
            BundleFormatError: a file is missing, or the programs have other inputs and outputs than the contract.
        """
        if macos_version() is None:
            raise RuntimeUnavailableError(
                "expected macOS, the only system with Core ML, found another; choose another variant, or check it on a Mac with: "
                f"{CHECK}"
            )
        self._programs: CompiledPrograms = open_programs(files, geometry, compute_units=compute_units, folder=compiled)

    def encode(self, input_ids: Ids, attention_mask: Ids) -> CoreMlMemory:
        """Run ``encode`` for each row; see ``Runtime.encode``.

        Raises:
            InputError: a source that is longer than the programs take.
        """
        sources, pooled = [], []
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            length = int(mask.nonzero()[0].max(initial=0)) + 1
            padded = np.full((1, self._padded(length)), PADDING, dtype=np.int32)
            padded[0, :length] = np.where(mask[:length] == 1, ids[:length], PADDING)
            found = self._programs.encode({"ids": padded})
            seen = np.full((1, 1, 1, self._programs.source_lengths[-1]), MASKED, dtype=np.float32)
            seen[..., : padded.shape[1]][..., padded[0] != PADDING] = 0
            sources.append(CoreMlSource(cross=found["cross"], mask=seen))
            pooled.append(found["pooled"])
        return CoreMlMemory(sources=tuple(sources), pooled=np.concatenate(pooled))

    def start(self, batch: int) -> CoreMlCache:
        """An empty cache; see ``Runtime.start``."""
        return CoreMlCache((Prefix(parent=None, column=None, length=0, tape=None, mark=object()),) * batch)

    def step(self, token_ids: Ids, memory: CoreMlMemory, cache: CoreMlCache) -> Step[CoreMlCache]:
        """Run ``step`` for each token of each row; see ``Runtime.step``.

        Raises:
            InputError: more tokens than the programs' cache holds.
        """
        logprobs, rows = [], []
        for tokens, source, prefix in zip(token_ids.tolist(), memory.sources, cache.rows, strict=True):
            lines = []
            for token in tokens:
                line, prefix = self._advance(token, source, prefix)  # noqa: PLW2901 the row goes on
                lines.append(line)
            logprobs.append(np.concatenate(lines))
            rows.append(prefix)
        return Step(logprobs=np.stack(logprobs), cache=CoreMlCache(tuple(rows)))

    def select(self, memory: CoreMlMemory, cache: CoreMlCache, rows: Ids) -> tuple[CoreMlMemory, CoreMlCache]:
        """Keep rows; see ``Runtime.select``."""
        chosen = rows.tolist()
        kept = CoreMlMemory(sources=tuple(memory.sources[row] for row in chosen), pooled=memory.pooled[rows])
        return kept, CoreMlCache(tuple(cache.rows[row] for row in chosen))

    def keep(self, cache: CoreMlCache, length: int) -> CoreMlCache:
        """Take tokens back; see ``Runtime.keep``."""
        rows = []
        for row in cache.rows:
            prefix = row
            while prefix.length > length:
                assert prefix.parent is not None
                prefix = prefix.parent
            rows.append(prefix)
        return CoreMlCache(tuple(rows))

    def _advance(self, token: int, source: CoreMlSource, prefix: Prefix) -> tuple[Floats, Prefix]:
        """One token further: log-probabilities float32 [1, vocab], and the longer prefix."""
        if prefix.length >= self._programs.target_tokens:
            raise InputError(
                f"expected an answer of at most {self._programs.target_tokens} tokens, as many as the Core ML programs' cache "
                "holds, found more; lower max_new_tokens, or choose a variant of another runtime"
            )
        if prefix.tape is not None:
            with prefix.tape.lock:
                if prefix.held():
                    return self._write(token, source, prefix, prefix.tape)
        tape = self._tape(prefix)
        with tape.lock:
            return self._write(token, source, prefix, tape)

    def _write(self, token: int, source: CoreMlSource, prefix: Prefix, tape: Tape) -> tuple[Floats, Prefix]:
        place = prefix.length
        del tape.marks[place:]
        feeds = {
            "token": np.array([[token]], dtype=np.int32),
            "position": np.array([place], dtype=np.int32),
            "cross": source.cross,
            "source_mask": source.mask,
        }
        if tape.state is None:
            feeds["cache"] = tape.values
        found = self._programs.step(feeds, tape.state)
        tape.values[:, :, place : place + 1] = found["new"]
        after = Prefix(parent=prefix, column=found["new"], length=place + 1, tape=tape, mark=object())
        tape.marks.append(after.mark)
        return found["logits"][0] - found["logsumexp"][0], after

    def _tape(self, prefix: Prefix) -> Tape:
        """A tape of its own for a prefix."""
        values = np.zeros(self._programs.cache_shape, dtype=np.float32)
        if columns := prefix.columns():
            values[:, :, : prefix.length] = np.concatenate(columns, axis=2)
        tape = Tape(self._programs.new_state(values), values)
        tape.marks = prefix.marks()
        return tape

    def _padded(self, length: int) -> int:
        fitting = [padded for padded in self._programs.source_lengths if padded >= length]
        if not fitting:
            raise InputError(
                f"expected a source of at most {self._programs.source_lengths[-1]} tokens, as many as the Core ML programs take, "
                f"found {length}; shorten it, or choose a variant of another runtime"
            )
        return fitting[0]

"""LiteRT, or tflite-runtime on older devices: one program, run row by row on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from pocketseq.errors import BundleFormatError
from pocketseq.manifest import Geometry
from pocketseq.runtimes.litert_program import Encoding, LiteRtProgram
from pocketseq.runtimes.protocol import Floats, Ids, Step


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One row of a memory."""

    encoding: Encoding
    mask: Floats
    """float32 [tokens], 1 at tokens and 0 at padding."""


@dataclass(frozen=True, slots=True)
class LiteRtMemory:
    """What the encoder made of a batch."""

    rows: tuple[Source, ...]

    @property
    def pooled(self) -> Floats:
        """Masked mean of the last encoder state, float32 [batch, d_model]."""
        return np.stack([row.encoding.pooled for row in self.rows])


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Keys and values of one token, after those of the tokens before it; caches with a common past share it."""

    before: Column | None
    """None at the first token."""
    length: int
    """Tokens up to this one."""
    values: Floats
    """float32 [2 × layers, heads, 1, head_dim]."""


@dataclass(frozen=True, slots=True)
class LiteRtCache:
    """The last column of each row; None where a row has no token yet."""

    rows: tuple[Column | None, ...]


class LiteRtRuntime:
    """Runs the program of a ``tflite`` variant.

    Caches are values, and the interpreter has room for one. It knows whose columns lie there: the row that goes on where it
    stopped brings its newest column alone, another brings those in which it differs.
    """

    def __init__(self, files: Mapping[str, Path], geometry: Geometry, *, threads: int = 1) -> None:
        """Open the program, and ask it the question that it was asked when it was exported.

        Args:
            files: The one verified file of the variant, by path within the bundle.
            geometry: Sizes of the model.
            threads: Threads for one call.

        Raises:
            BundleFormatError: no program among the files, or one that is not of this model.
            RuntimeUnavailableError: no library is installed that runs the program, and runs it right.
        """
        path = next((path for listed, path in files.items() if listed.endswith(".tflite")), None)
        if path is None:
            raise BundleFormatError(f"expected a .tflite among the variant's files, found {sorted(files)}; export the bundle again")
        self._program = LiteRtProgram(path, threads=threads)
        expected = (geometry.decoder_layers, geometry.heads, geometry.head_dim, geometry.vocab_size)
        if self._program.geometry != expected:
            raise BundleFormatError(
                f"{path}: expected (layers, heads, head_dim, vocab_size) = {expected}, found {self._program.geometry}; "
                "export the bundle again"
            )
        self._program.try_probe()
        self._lock = Lock()
        self._source: Source | None = None
        self._last: Column | None = None
        self._vocab_size = geometry.vocab_size

    def encode(self, input_ids: Ids, attention_mask: Ids) -> LiteRtMemory:
        """Run the encoder on each row; see ``Runtime.encode``.

        Raises:
            InputTooLongError: a row has more tokens than the program takes.
        """
        rows = []
        for ids, seen in zip(input_ids, attention_mask, strict=True):
            count = int(seen.nonzero()[0][-1]) + 1  # padding behind the last token costs nothing
            mask = seen[:count].astype(np.float32)
            with self._lock:
                rows.append(Source(self._program.encode(ids[:count].astype(np.int32), mask), mask))
        return LiteRtMemory(tuple(rows))

    def start(self, batch: int) -> LiteRtCache:
        """An empty cache; see ``Runtime.start``."""
        return LiteRtCache((None,) * batch)

    def step(self, token_ids: Ids, memory: LiteRtMemory, cache: LiteRtCache) -> Step[LiteRtCache]:
        """Run the decoder on each row, token by token; see ``Runtime.step``.

        Raises:
            InputTooLongError: an answer has more tokens than the program takes.
        """
        logprobs: Floats = np.empty((*token_ids.shape, self._vocab_size), np.float32)
        grown = list(cache.rows)
        for row, source in enumerate(memory.rows):
            with self._lock:
                self._hear(source)
                for place, token in enumerate(token_ids[row].tolist()):
                    column = grown[row]
                    self._recall(column)
                    position = 0 if column is None else column.length
                    logprobs[row, place], values = self._program.step(token, position)
                    grown[row] = Column(column, position + 1, values)
        return Step(logprobs=logprobs, cache=LiteRtCache(tuple(grown)))

    def select(self, memory: LiteRtMemory, cache: LiteRtCache, rows: Ids) -> tuple[LiteRtMemory, LiteRtCache]:
        """Keep rows; see ``Runtime.select``."""
        kept = rows.tolist()
        return LiteRtMemory(tuple(memory.rows[row] for row in kept)), LiteRtCache(tuple(cache.rows[row] for row in kept))

    def keep(self, cache: LiteRtCache, length: int) -> LiteRtCache:
        """Take tokens back; see ``Runtime.keep``."""
        return LiteRtCache(tuple(_first(column, length) for column in cache.rows))

    def _hear(self, source: Source) -> None:
        if self._source is not source:
            self._source = None
            self._program.hear(source.encoding, source.mask)
            self._source = source

    def _recall(self, last: Column | None) -> None:
        """Bring the columns up to this one that do not lie in the interpreter."""
        missing: list[Column] = []
        there, wanted = self._last, last
        while wanted is not there:
            if wanted is not None and (there is None or wanted.length > there.length):
                missing.append(wanted)
                wanted = wanted.before
            else:
                assert there is not None
                there = there.before
        self._last = there
        if missing:
            values = [column.values for column in reversed(missing)]
            self._program.remember(missing[-1].length - 1, values[0] if len(values) == 1 else np.concatenate(values, axis=2))
            self._last = last


def _first(column: Column | None, length: int) -> Column | None:
    """The column of the token that makes this length."""
    while column is not None and column.length > length:
        column = column.before
    return column

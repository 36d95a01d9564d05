"""The engine: an opened model, from inputs to results."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np

from pocketseq.confidence import confidence
from pocketseq.decoding import Decoded, Emission, Sampling, collect, decoded, emissions
from pocketseq.errors import InputError
from pocketseq.manifest import Manifest
from pocketseq.results import Result, Timing
from pocketseq.runtimes.protocol import AnyRuntime
from pocketseq.streaming import text_stream
from pocketseq.template import EncodedInput, Input, Overflow
from pocketseq.tokenizer import TextTokenizer

_BATCH: Final = 32
"""Rows that run at once: more bring little on a CPU and take memory."""


@dataclass(frozen=True, slots=True)
class Job:
    """An input that was read, and how to answer it."""

    encoded: EncodedInput
    started: float
    """``perf_counter`` at the call, in seconds."""
    tokenize_ms: float


@dataclass(frozen=True, slots=True)
class Engine:
    """Tokenizer and runtime of a model; safe to share between threads."""

    manifest: Manifest
    """Template and geometry."""
    tokenizer: TextTokenizer
    runtime: AnyRuntime
    scorer: str
    """Name of the confidence scorer."""

    def read(self, source: Input, overflow: Overflow) -> Job:
        """Check an input and turn it into token ids.

        Raises:
            InputError: not what the template takes, or an unknown ``overflow``.
            InputTooLongError: over the budget, and ``overflow`` is ``refuse``.
        """
        started = perf_counter()
        if overflow not in ("truncate", "refuse"):
            raise InputError(f"overflow: expected 'truncate' or 'refuse', found {overflow!r}")
        encoded = self.manifest.template.encode(self.tokenizer, source, overflow=overflow)
        if not encoded.ids:
            raise InputError("expected text that the model's vocabulary knows, found no token in it")
        return Job(encoded=encoded, started=started, tokenize_ms=_milliseconds(started))

    def answer(self, jobs: Sequence[Job], *, max_new_tokens: int, sampling: Sampling | None) -> list[Result]:
        """Answer inputs, those of like length together, in the order given."""
        order = sorted(range(len(jobs)), key=lambda row: len(jobs[row].encoded.ids))
        results: dict[int, Result] = {}
        for first in range(0, len(order), _BATCH):
            rows = order[first : first + _BATCH]
            started = perf_counter()
            memory = self._encode([jobs[row].encoded for row in rows])
            encode_ms = _milliseconds(started)
            started = perf_counter()
            steps = self._emissions(memory, rows, max_new_tokens, sampling)
            answers = collect(steps, end_id=self.manifest.geometry.end_id)
            decode_ms = _milliseconds(started)
            for row in rows:
                results[row] = self._result(jobs[row], answers[row], encode_ms, decode_ms)
        return [results[row] for row in range(len(jobs))]

    def stream(self, job: Job, *, max_new_tokens: int, sampling: Sampling | None) -> Generator[str, None, Result]:
        """Answer one input piece by piece; the whole result is the generator's return value."""
        text = text_stream(self.manifest.template, self.tokenizer, job.encoded)
        end_id = self.manifest.geometry.end_id
        started = perf_counter()
        memory = self._encode([job.encoded])
        encode_ms = _milliseconds(started)
        decode_ms = 0.0
        steps = self._emissions(memory, [0], max_new_tokens, sampling)
        emitted: list[tuple[int, float]] = []
        while True:
            started = perf_counter()
            step = next(steps, None)
            decode_ms += _milliseconds(started)  # not the time that the consumer takes between pieces
            if step is None:
                break
            token = int(step.ids[0])
            emitted.append((token, float(step.logprobs[0])))
            if token != end_id and (piece := text.push(token)):
                yield piece
        if piece := text.finish():
            yield piece
        return self._result(job, decoded(emitted, end_id=end_id), encode_ms, decode_ms)

    def _encode(self, inputs: Sequence[EncodedInput]) -> Any:
        longest = max(len(encoded.ids) for encoded in inputs)
        ids = np.full((len(inputs), longest), self.manifest.geometry.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoded in enumerate(inputs):
            ids[row, : len(encoded.ids)] = encoded.ids
            mask[row, : len(encoded.ids)] = 1
        return self.runtime.encode(ids, mask)

    def _emissions(self, memory: Any, rows: Sequence[int], max_new_tokens: int, sampling: Sampling | None) -> Iterator[Emission]:
        geometry = self.manifest.geometry
        return emissions(
            self.runtime,
            memory,
            rows=rows,
            start_id=geometry.start_id,
            end_id=geometry.end_id,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
        )

    def _result(self, job: Job, answer: Decoded, encode_ms: float, decode_ms: float) -> Result:
        ids = answer.ids[:-1] if answer.finish_reason == "stop" else answer.ids
        text = self.manifest.template.decode(self.tokenizer, ids, job.encoded)
        return Result(
            text=text,
            confidence=confidence(answer.logprobs, self.scorer),
            tokens=answer.ids,
            token_logprobs=answer.logprobs,
            finish_reason=answer.finish_reason,
            truncated=job.encoded.truncated,
            timing=Timing(
                tokenize_ms=job.tokenize_ms, encode_ms=encode_ms, decode_ms=decode_ms, total_ms=_milliseconds(job.started)
            ),
        )


def _milliseconds(since: float) -> float:
    return 1000 * (perf_counter() - since)

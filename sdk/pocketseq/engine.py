"""The engine: an opened model, from inputs to results."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

import numpy as np

from pocketseq.answers import Answers
from pocketseq.characters import check_text
from pocketseq.confidence import Scoring, sigmoid
from pocketseq.decoder import Decoder
from pocketseq.decoding import Decoded
from pocketseq.errors import InputError
from pocketseq.job import Job, milliseconds
from pocketseq.manifest import Manifest
from pocketseq.options import PLAIN, Request
from pocketseq.plan import Plan, make_plan
from pocketseq.results import Result, Score, keep_answers
from pocketseq.runtimes.protocol import AnyRuntime, Ids
from pocketseq.template import EncodedInput, Input
from pocketseq.tokenizer import TextTokenizer

_BATCH: Final = 8
"""Rows that run at once: on a CPU more bring nothing, and the more there are, the more are padded to the longest and wait for the
slowest (measured: 8 rows at a time are a third faster than 32)."""


@dataclass(slots=True)
class Engine:
    """Tokenizer and runtime of a model; safe to share between threads."""

    manifest: Manifest
    """Template and geometry."""
    tokenizer: TextTokenizer
    runtime: AnyRuntime
    scoring: Scoring
    """How answers and inputs are judged."""
    _decoder: Decoder = field(init=False)
    _ones: Ids = field(init=False)
    """The mask of one input, int64 [1, longest]: a view of it is made sooner than a mask."""
    _plain: Plan | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._decoder = Decoder(self.manifest.geometry, self.tokenizer, self.runtime, self.scoring.scorer)
        self._ones = np.ones((1, self.manifest.template.longest(self.tokenizer)), dtype=np.int64)
        self._ones.flags.writeable = False

    def plan(self, request: Request) -> Plan:
        """Hold a request against the model; see ``make_plan``."""
        if request is not PLAIN:
            return make_plan(self.manifest, self.tokenizer, request)
        if self._plain is None:
            self._plain = make_plan(self.manifest, self.tokenizer, request)
        return self._plain

    def warm_up(self) -> None:
        """Open what answers to calls without options need."""
        self._decoder.warm_up(self.plan(PLAIN))

    def read(self, source: Input, request: Request, *, called: float, number: int = 0) -> Job:
        """Check an input and turn it into token ids.

        Args:
            source: What the caller gave.
            request: How it is to be answered.
            called: ``perf_counter`` at the call, from which the deadline counts.
            number: Place among the inputs of the call.

        Raises:
            InputError: not what the template takes.
            InputTooLongError: over the budget, and ``overflow`` is ``refuse``.
        """
        started = perf_counter()
        encoded = self.manifest.template.encode(self.tokenizer, source, overflow=request.overflow)
        if not encoded.ids:
            raise InputError("expected text that the model's vocabulary knows, found no token in it")
        return Job(
            encoded=encoded,
            number=number,
            started=started,
            tokenize_ms=milliseconds(started),
            deadline=None if request.deadline_s is None else called + request.deadline_s,
            cancellation=request.cancellation,
        )

    def read_all(self, sources: Sequence[Input], request: Request, *, called: float) -> list[Job]:
        """Read the inputs of one call; see ``read``.

        Raises:
            InputError: with the number of the input.
        """
        jobs = []
        for number, source in enumerate(sources):
            try:
                jobs.append(self.read(source, request, called=called, number=number))
            except InputError as error:
                raise type(error)(f"input {number}: {error}") from None
        return jobs

    def answer(self, jobs: Sequence[Job], plan: Plan) -> list[Result]:
        """Answer inputs, those of like length together, in the order given; an error carries the answers that were finished."""
        order = sorted(range(len(jobs)), key=lambda row: len(jobs[row].encoded.ids))
        results: dict[int, Result] = {}
        try:
            for first in range(0, len(order), _BATCH):
                self._answer(order[first : first + _BATCH], jobs, plan, results)
        except Exception as error:
            keep_answers(error, results)
            raise
        return [results[row] for row in range(len(jobs))]

    def _answer(self, rows: Sequence[int], jobs: Sequence[Job], plan: Plan, results: dict[int, Result]) -> None:
        """Answer some inputs at once."""
        halted = {row: reason for row in rows if (reason := jobs[row].halted())}
        answers = Answers(self.manifest.template, self.tokenizer, self.scoring.scorer, plan)
        for row, reason in halted.items():
            results[row] = answers.empty(jobs[row], reason)
        if rows := [row for row in rows if row not in halted]:
            started = perf_counter()
            memory = self._encode([jobs[row].encoded for row in rows])
            answers.encode_ms = milliseconds(started)
            started = perf_counter()
            gates = self._gates(memory, [jobs[row] for row in rows], plan)
            found: dict[int, Sequence[Decoded]] = {}
            try:
                self._decoder.decode(memory, rows, jobs, plan, found)
            finally:  # what was answered before an error is an answer
                answers.decode_ms = milliseconds(started)
                for place, row in enumerate(rows):
                    if row in found:
                        pooled = memory.pooled[place] if self._looks_at_state(plan) else None
                        results[row] = answers.result(jobs[row], found[row], pooled, gate=gates[place])

    def stream(self, job: Job, plan: Plan) -> Generator[str, None, Result]:
        """Answer one input piece by piece; the whole result is the generator's return value."""
        from pocketseq.streaming import text_stream

        text = text_stream(self.manifest.template, self.tokenizer, job.encoded, stops=plan.constraints.stop)
        answers = Answers(self.manifest.template, self.tokenizer, self.scoring.scorer, plan)
        for token in plan.prefix:
            if piece := text.push(token):
                yield piece
        if reason := job.halted():
            if piece := text.finish():
                yield piece
            return answers.empty(job, reason)
        started = perf_counter()
        memory = self._encode([job.encoded])
        answers.encode_ms = milliseconds(started)
        (gate,) = self._gates(memory, [job], plan)
        steps = self._decoder.stream(memory, job, plan)
        while True:
            started = perf_counter()
            try:
                tokens = next(steps)
            except StopIteration as end:
                found = end.value
                break
            finally:
                answers.decode_ms += milliseconds(started)  # not the time that the consumer takes between pieces
            for token in tokens:
                if piece := text.push(token):
                    yield piece
        if piece := text.finish():
            yield piece
        pooled = memory.pooled[0] if self._looks_at_state(plan) else None
        return answers.result(job, found, pooled, gate=gate)

    def score(self, jobs: Sequence[Job], targets: Sequence[str], plan: Plan) -> list[Score]:
        """Score given answers to inputs, in the order given.

        Raises:
            InputError: a target that is no edit of its input, or longer than the model's positions.
        """
        from pocketseq.decoding.scoring import score_targets

        answers = Answers(self.manifest.template, self.tokenizer, self.scoring.scorer, plan)
        wanted = [self._target(job, target, plan) for job, target in zip(jobs, targets, strict=True)]
        order = sorted(range(len(jobs)), key=lambda row: len(wanted[row]))
        scores: dict[int, Score] = {}
        for first in range(0, len(order), _BATCH):
            rows = order[first : first + _BATCH]
            memory = self._encode([jobs[row].encoded for row in rows])
            gates = self._gates(memory, [jobs[row] for row in rows], plan)
            found = score_targets(
                self.runtime,
                memory,
                prompt=plan.prompt,
                targets=[wanted[row] for row in rows],
                pad_id=self.manifest.geometry.pad_id,
                alternatives=plan.request.alternatives,
                spread=self.scoring.scorer.looks_at_spread,
            )
            for row, given, gate, pooled in zip(rows, found, gates, memory.pooled, strict=True):
                scores[row] = answers.score(jobs[row], given, pooled if self._looks_at_state(plan) else None, gate=gate)
        return [scores[row] for row in range(len(jobs))]

    def _target(self, job: Job, target: str, plan: Plan) -> list[int]:
        check_text("target", target)
        ids = self.manifest.template.encode_target(self.tokenizer, job.encoded, target)
        if ids is None:
            raise InputError(
                "target: expected an edit of what the model sees of the input, found a text that differs outside of it: "
                f"{target!r:.80}"
            )
        longest = self.manifest.geometry.max_target_tokens - len(plan.prompt)
        if len(ids) > longest:
            raise InputError(f"target: expected at most {longest} tokens, found {len(ids)}; shorten it")
        return [*ids, self.manifest.geometry.end_id]

    def _encode(self, inputs: Sequence[EncodedInput]) -> Any:
        if len(inputs) == 1:
            ids = np.array([inputs[0].ids], dtype=np.int64)
            return self.runtime.encode(ids, self._ones[:, : ids.shape[1]])
        longest = max(len(encoded.ids) for encoded in inputs)
        ids = np.full((len(inputs), longest), self.manifest.geometry.pad_id, dtype=np.int64)
        mask = np.zeros((len(inputs), longest), dtype=np.int64)
        for row, encoded in enumerate(inputs):
            ids[row, : len(encoded.ids)] = encoded.ids
            mask[row, : len(encoded.ids)] = 1
        return self.runtime.encode(ids, mask)

    def _looks_at_state(self, plan: Plan) -> bool:
        """Whether the caller or the scorer asks for the pooled encoder state."""
        return plan.request.pooled or self.scoring.scorer.looks_at_state

    def _gates(self, memory: Any, jobs: Sequence[Job], plan: Plan) -> list[float | None]:
        """Log-odds of each row by the gate, where anyone looks at it, and the callback of a caller who waits for it."""
        gate, told = self.scoring.gate, plan.request.on_gate
        if gate is None or not (told is not None or self.scoring.scorer.looks_at_gate):
            return [None] * len(jobs)
        found = gate(memory.pooled, [len(job.encoded.ids) for job in jobs])
        if told is not None:
            for log_odds in found:
                told(sigmoid(log_odds))
        return [*found]

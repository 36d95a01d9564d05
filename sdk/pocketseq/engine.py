"""The engine: an opened model, from inputs to results."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

import numpy as np

from pocketseq.answers import Answers
from pocketseq.characters import check_text
from pocketseq.confidence import Scoring, sigmoid
from pocketseq.decoding import (
    STRIDE,
    CopyDraft,
    Decoded,
    Emission,
    Halt,
    StopStrings,
    beam_search,
    best,
    collect,
    constrained,
    drafted,
    drawing,
    emissions,
    greedy,
    score_targets,
)
from pocketseq.decoding.grammar import GrammarState, Vocabulary
from pocketseq.errors import InputError
from pocketseq.job import Job, milliseconds
from pocketseq.manifest import Manifest
from pocketseq.options import PLAIN, Request
from pocketseq.plan import Plan, make_plan
from pocketseq.results import Result, Score
from pocketseq.runtimes.protocol import AnyRuntime
from pocketseq.streaming import text_stream
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
    _vocabulary: Vocabulary | None = field(default=None, init=False)
    _plain: Plan | None = field(default=None, init=False)

    def plan(self, request: Request) -> Plan:
        """Hold a request against the model; see ``make_plan``."""
        if request is not PLAIN:
            return make_plan(self.manifest, self.tokenizer, request)
        if self._plain is None:
            self._plain = make_plan(self.manifest, self.tokenizer, request)
        return self._plain

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
        """Answer inputs, those of like length together, in the order given."""
        order = sorted(range(len(jobs)), key=lambda row: len(jobs[row].encoded.ids))
        results: dict[int, Result] = {}
        for first in range(0, len(order), _BATCH):
            rows = order[first : first + _BATCH]
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
                found = self._decode(memory, rows, jobs, plan)
                answers.decode_ms = milliseconds(started)
                for place, row in enumerate(rows):
                    pooled = memory.pooled[place] if plan.request.pooled else None
                    results[row] = answers.result(jobs[row], found[row], pooled, gate=gates[place])
        return [results[row] for row in range(len(jobs))]

    def stream(self, job: Job, plan: Plan) -> Generator[str, None, Result]:
        """Answer one input piece by piece; the whole result is the generator's return value."""
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
        steps = self._emissions(memory, [0], [job], plan, ahead=1)
        emitted: list[Emission] = []
        while True:
            started = perf_counter()
            step = next(steps, None)
            answers.decode_ms += milliseconds(started)  # not the time that the consumer takes between pieces
            if step is None:
                break
            emitted.append(step)
            if step.endings.get(0) != "stop" and step.rows and (piece := text.push(step.ids[0])):
                yield piece
        if piece := text.finish():
            yield piece
        return answers.result(job, [collect(emitted)[0]], memory.pooled[0] if plan.request.pooled else None, gate=gate)

    def score(self, jobs: Sequence[Job], targets: Sequence[str], plan: Plan) -> list[Score]:
        """Score given answers to inputs, in the order given.

        Raises:
            InputError: a target that is no edit of its input, or longer than the model's positions.
        """
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
            for row, given, gate in zip(rows, found, gates, strict=True):
                scores[row] = answers.score(jobs[row], given, gate=gate)
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
            ids = np.array(inputs[0].ids, dtype=np.int64)[None]
            return self.runtime.encode(ids, np.ones(ids.shape, dtype=np.int64))
        longest = max(len(encoded.ids) for encoded in inputs)
        ids = np.full((len(inputs), longest), self.manifest.geometry.pad_id, dtype=np.int64)
        mask = np.zeros((len(inputs), longest), dtype=np.int64)
        for row, encoded in enumerate(inputs):
            ids[row, : len(encoded.ids)] = encoded.ids
            mask[row, : len(encoded.ids)] = 1
        return self.runtime.encode(ids, mask)

    def _decode(self, memory: Any, rows: Sequence[int], jobs: Sequence[Job], plan: Plan) -> Mapping[int, Sequence[Decoded]]:
        """The answers of each row, the best first: one without beams."""
        if plan.request.beams is None:
            return {row: (answer,) for row, answer in collect(self._emissions(memory, rows, jobs, plan)).items()}
        return beam_search(
            self.runtime,
            memory,
            rows=rows,
            prompt=plan.prompt,
            end_id=self.manifest.geometry.end_id,
            max_new_tokens=plan.max_new_tokens,
            beams=plan.request.beams,
            rules=plan.rules,
            halt=_halt(rows, jobs),
            found=None if (stops := self._stops(plan)) is None else stops.found,
            spread=self.scoring.scorer.looks_at_spread,
        )

    def _gates(self, memory: Any, jobs: Sequence[Job], plan: Plan) -> list[float | None]:
        """Log-odds of each row by the gate, and the callback of a caller who waits for it."""
        gate = self.scoring.gate
        if gate is None:
            return [None] * len(jobs)
        found = [gate(pooled, len(job.encoded.ids)) for pooled, job in zip(memory.pooled, jobs, strict=True)]
        if plan.request.on_gate is not None:
            for log_odds in found:
                plan.request.on_gate(sigmoid(log_odds))
        return [*found]

    def _emissions(
        self, memory: Any, rows: Sequence[int], jobs: Sequence[Job], plan: Plan, *, ahead: int | None = None
    ) -> Iterator[Emission]:
        stops = self._stops(plan)
        arguments: dict[str, Any] = {
            "rows": rows,
            "prompt": plan.prompt,
            "end_id": self.manifest.geometry.end_id,
            "max_new_tokens": plan.max_new_tokens,
            "halt": _halt(rows, jobs),
            "ended": None if stops is None else stops.ended,
        }
        spread = self.scoring.scorer.looks_at_spread
        if plan.is_greedy and plan.request.alternatives == 0 and not spread:
            return self._greedy(memory, jobs, plan, ahead, arguments)
        sampling = plan.request.sampling
        choose = best if sampling is None else drawing(sampling, {row: jobs[row].number for row in rows})
        if plan.rules is not None or plan.constraints.has_grammar:
            choose = constrained(plan.rules, self._grammars(rows, plan), rows, plan.max_new_tokens, choose)
        return emissions(self.runtime, memory, choose=choose, alternatives=plan.request.alternatives, spread=spread, **arguments)

    def _greedy(
        self, memory: Any, jobs: Sequence[Job], plan: Plan, ahead: int | None, arguments: dict[str, Any]
    ) -> Iterator[Emission]:
        running = [jobs[row] for row in arguments["rows"]]
        if len(running) == 1 and (document := plan.document or (running[0].encoded.primary_ids if plan.drafts else ())):
            draft = CopyDraft([*document, self.manifest.geometry.end_id], said=plan.prefix)
            return drafted(self.runtime, memory, draft=draft, **arguments)
        if any(job.cancellation for job in running):
            ahead = 1
        elif ahead is None and arguments["halt"]:
            ahead = STRIDE
        return greedy(self.runtime, memory, ahead=ahead, **arguments)

    def _stops(self, plan: Plan) -> StopStrings | None:
        if not plan.constraints.stop:
            return None
        return StopStrings(plan.constraints.stop, lambda ids: self.tokenizer.decode([*plan.prefix, *ids]))

    def _grammars(self, rows: Sequence[int], plan: Plan) -> Mapping[int, GrammarState]:
        if not plan.constraints.has_grammar:
            return {}
        if self._vocabulary is None:  # two threads may both make one: the same, and the first is forgotten
            geometry = self.manifest.geometry
            self._vocabulary = Vocabulary(self.tokenizer.definition, size=geometry.vocab_size, end_id=geometry.end_id)
        vocabulary = self._vocabulary
        return {row: vocabulary.start(plan.constraints, room=plan.max_new_tokens) for row in rows}


def _halt(rows: Sequence[int], jobs: Sequence[Job]) -> Halt | None:
    for row in rows:
        if jobs[row].can_halt:
            return lambda row: jobs[row].halted()
    return None

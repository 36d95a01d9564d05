"""The decoder: how a call's plan is carried out on a runtime, whole or token by token."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pocketseq.confidence import Scorer
from pocketseq.decoding import (
    STRIDE,
    Decoded,
    Emission,
    Halt,
    StopStrings,
    best,
    collect,
    drawing,
    emissions,
    greedy,
    greedy_answer,
)
from pocketseq.job import Job
from pocketseq.manifest import Geometry
from pocketseq.plan import Plan
from pocketseq.runtimes.protocol import AnyRuntime
from pocketseq.tokenizer import TextTokenizer

if TYPE_CHECKING:
    # Imported where they are used: most processes only ever ask for the likeliest tokens.
    from pocketseq.decoding.beams import Search
    from pocketseq.decoding.drafts import CopyDraft
    from pocketseq.decoding.grammar import GrammarState, Vocabulary


@dataclass(slots=True)
class Decoder:
    """Finds answers by the plan; safe to share between threads."""

    geometry: Geometry
    tokenizer: TextTokenizer
    runtime: AnyRuntime
    scorer: Scorer
    """Says whether it looks at more than log-probabilities."""
    _vocabulary: Vocabulary | None = field(default=None, init=False)

    def warm_up(self, plan: Plan) -> None:
        """Open what answers by a plan need of a runtime that opens its parts when they are first asked for."""
        if hasattr(self.runtime, "open_decoder"):
            self.runtime.open_decoder(greedy=not self.scorer.looks_at_spread and not plan.drafts)

    def decode(
        self, memory: Any, rows: Sequence[int], jobs: Sequence[Job], plan: Plan, found: dict[int, Sequence[Decoded]]
    ) -> None:
        """Answer a batch.

        Args:
            memory: What the runtime's ``encode`` gave.
            rows: The place among the jobs of each row of the memory.
            jobs: Inputs of the call.
            plan: How they are answered.
            found: Is given the answers of each row, the best first: one without beams, and then as soon as it is whole, so that
                it is there when an error ends the others.
        """
        if len(rows) == 1 and self._is_whole(jobs[rows[0]], plan) and (answers := self._whole(memory, jobs[rows[0]], plan)):
            unseen = self.scorer.looks_at_spread and not all(answer.spread for answer in answers)
            found[rows[0]] = self._with_spread(memory, answers, plan) if unseen else answers
        elif plan.request.beams is None:
            collect(self._emissions(memory, rows, jobs, plan), lambda row, answer: found.update({row: (answer,)}))
        else:
            from pocketseq.decoding.beams import outcome

            found.update(outcome(self._search(memory, rows, jobs, plan)))

    def stream(self, memory: Any, job: Job, plan: Plan) -> Generator[Sequence[int], None, Sequence[Decoded]]:
        """Answer one input step by step.

        Args:
            memory: What the runtime's ``encode`` gave for it.
            job: The input.
            plan: How it is answered.

        Yields:
            The tokens that have become certain, the end token left out.

        Returns:
            Its answers, the best first: one without beams.
        """
        if plan.request.beams is None:
            return (yield from self._streamed(memory, job, plan))
        steps, given = self._search(memory, [0], [job], plan), 0
        while True:
            try:
                searches = next(steps)
            except StopIteration as end:
                answers: list[Decoded] = end.value[0]
                last = answers[0]
                yield last.ids[given : -1 if last.finish_reason == "stop" else None]
                return answers
            if searches:
                agreed = searches[0].agreed()
                yield agreed[given:]
                given = len(agreed)

    def _is_whole(self, job: Job, plan: Plan) -> bool:
        """Whether nothing can happen between the tokens of an answer to one input, and whole it is found sooner.

        A greedy answer whose spread is looked at is not: to read it again for that takes longer than the calls that are spared.
        """
        return plan.is_plain and not job.can_halt and not (plan.request.beams is None and self.scorer.looks_at_spread)

    def _whole(self, memory: Any, job: Job, plan: Plan) -> Sequence[Decoded]:
        """The answers to one input in few calls of the runtime; none where the runtime has no such call."""
        arguments: dict[str, Any] = {
            "prompt": plan.prompt_row,
            "end_id": self.geometry.end_id,
            "max_new_tokens": plan.max_new_tokens,
        }
        if (beams := plan.request.beams) is not None:
            if not hasattr(self.runtime, "beams"):
                return ()
            from pocketseq.decoding.tracing import beam_answers

            return beam_answers(self.runtime, memory, vocab_size=self.geometry.vocab_size, beams=beams, **arguments) or ()
        if draft := self._draft(job, plan):
            from pocketseq.decoding.drafts import drafted_answer

            return [drafted_answer(self.runtime, memory, draft=draft, **{**arguments, "prompt": plan.prompt})]
        return [greedy_answer(self.runtime, memory, **arguments)] if hasattr(self.runtime, "greedy") else ()

    def _with_spread(self, memory: Any, answers: Sequence[Decoded], plan: Plan) -> Sequence[Decoded]:
        """The answers with the spread of each place, which graphs of before do not tell: reading them at once shows it."""
        from pocketseq.decoding.scoring import score_targets

        arguments: dict[str, Any] = {"prompt": plan.prompt, "pad_id": self.geometry.pad_id, "spread": True}
        for answer in answers:
            (read,) = score_targets(self.runtime, memory, targets=[answer.ids], **arguments)
            answer.spread = read.spread
        return answers

    def _draft(self, job: Job, plan: Plan) -> CopyDraft | None:
        if not (document := plan.document or (job.encoded.primary_ids if plan.drafts else ())):
            return None
        from pocketseq.decoding.drafts import CopyDraft

        return CopyDraft([*document, self.geometry.end_id], said=plan.prefix)

    def _streamed(self, memory: Any, job: Job, plan: Plan) -> Generator[Sequence[int], None, Sequence[Decoded]]:
        emitted: list[Emission] = []
        for step in self._emissions(memory, [0], [job], plan, ahead=1):
            emitted.append(step)
            yield () if step.endings.get(0) == "stop" else step.ids
        return [collect(emitted)[0]]

    def _search(
        self, memory: Any, rows: Sequence[int], jobs: Sequence[Job], plan: Plan
    ) -> Generator[Sequence[Search], None, dict[int, list[Decoded]]]:
        from pocketseq.decoding.beams import beam_search

        assert plan.request.beams is not None
        return beam_search(
            self.runtime,
            memory,
            rows=rows,
            prompt=plan.prompt,
            end_id=self.geometry.end_id,
            max_new_tokens=plan.max_new_tokens,
            beams=plan.request.beams,
            rules=plan.rules,
            grammars=self._grammars(rows, plan),
            halt=_halt(rows, jobs),
            found=None if (stops := self._stops(plan)) is None else stops.found,
            alternatives=plan.request.alternatives,
            spread=self.scorer.looks_at_spread,
        )

    def _emissions(
        self, memory: Any, rows: Sequence[int], jobs: Sequence[Job], plan: Plan, *, ahead: int | None = None
    ) -> Iterator[Emission]:
        stops = self._stops(plan)
        arguments: dict[str, Any] = {
            "rows": rows,
            "prompt": plan.prompt,
            "end_id": self.geometry.end_id,
            "max_new_tokens": plan.max_new_tokens,
            "halt": _halt(rows, jobs),
            "ended": None if stops is None else stops.ended,
        }
        spread = self.scorer.looks_at_spread
        if plan.is_greedy and plan.request.alternatives == 0 and not spread:
            return self._greedy(memory, jobs, plan, ahead, arguments)
        sampling = plan.request.sampling
        choose = best if sampling is None else drawing(sampling, {row: jobs[row].number for row in rows})
        if plan.rules is not None or plan.constraints.has_grammar:
            from pocketseq.decoding.rules import constrained

            choose = constrained(plan.rules, self._grammars(rows, plan), rows, plan.max_new_tokens, choose)
        return emissions(self.runtime, memory, choose=choose, alternatives=plan.request.alternatives, spread=spread, **arguments)

    def _greedy(
        self, memory: Any, jobs: Sequence[Job], plan: Plan, ahead: int | None, arguments: dict[str, Any]
    ) -> Iterator[Emission]:
        running = [jobs[row] for row in arguments["rows"]]
        if len(running) == 1 and (draft := self._draft(running[0], plan)):
            from pocketseq.decoding.drafts import drafted

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
        from pocketseq.decoding.grammar import Vocabulary

        if self._vocabulary is None:  # two threads may both make one: the same, and the first is forgotten
            self._vocabulary = Vocabulary(self.tokenizer.definition, size=self.geometry.vocab_size, end_id=self.geometry.end_id)
        vocabulary = self._vocabulary
        return dict.fromkeys(rows, vocabulary.start(plan.constraints, room=plan.max_new_tokens))


def _halt(rows: Sequence[int], jobs: Sequence[Job]) -> Halt | None:
    for row in rows:
        if jobs[row].can_halt:
            return lambda row: jobs[row].halted()
    return None

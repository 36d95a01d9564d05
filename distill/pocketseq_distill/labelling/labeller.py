"""From rows to labels: the piece of work that a process, a thread or a machine does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Final, TypeAlias

from pocketseq.errors import TeacherError
from pocketseq.examples import Example
from pocketseq_distill.labelling.choice import rank
from pocketseq_distill.labelling.label import Label, LabelSettings, OtherAnswer, source_digest
from pocketseq_distill.labelling.reverse import ReverseModel
from pocketseq_distill.labelling.teacher import Candidate, Failure, Question, Reply, Teacher

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
"""Halves of characters: where an answer is cut inside an emoji, some endpoints write one in their JSON. No file can hold them."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A row without an answer, to be asked again another time."""

    id: str
    failure: Failure
    """Why."""
    why: str
    """The same in words."""


Outcome: TypeAlias = Label | Missed


@dataclass(frozen=True, slots=True)
class Labeller:
    """Asks a teacher about rows and chooses among its answers; can be pickled where its teacher can."""

    teacher: Teacher
    settings: LabelSettings
    reverse: ReverseModel | None = None
    """Judges how well an answer tells the source; None where nobody asks for it."""
    source_field: str = ""
    """Field that the reverse model gives back; the first one if empty."""

    def __call__(self, examples: Sequence[Example]) -> list[Outcome]:
        """Label some rows.

        Returns:
            One outcome for each row, in their order.

        Raises:
            DataError: a row that is no Unicode text.
            TeacherError: the teacher gave something else than a reply for each question.
            PocketSeqError: whatever the teacher raises.
        """
        questions = [Question(example.fields, seed=int(source_digest(example), 16) % 2**31) for example in examples]
        replies = [_readable(reply) for reply in self.teacher.ask(questions, self.settings.asking)]
        if len(replies) != len(questions):
            raise TeacherError(f"expected {len(questions)} replies, one for each question, found {len(replies)}")
        apart = self._cross_entropies(examples, replies)
        return [
            self._outcome(example, reply, apart[place])
            for place, (example, reply) in enumerate(zip(examples, replies, strict=True))
        ]

    def _cross_entropies(self, examples: Sequence[Example], replies: Sequence[Reply]) -> list[list[float]]:
        """Of each row's source given each of its candidates, all in one go."""
        if self.reverse is None:
            return [[] for _ in replies]
        sources = [example.fields[self.source_field or next(iter(example.fields))] for example in examples]
        pairs = [(source, one.text) for source, reply in zip(sources, replies, strict=True) for one in reply.candidates]
        values = iter(self.reverse.cross_entropies([source for source, _ in pairs], [text for _, text in pairs]))
        return [[next(values) for _ in reply.candidates] for reply in replies]

    def _outcome(self, example: Example, reply: Reply, apart: list[float]) -> Outcome:
        if reply.failure == "refused":
            return Label(id=example.id, source=source_digest(example), text="", logprob=None, finish_reason="refused")
        if reply.failure is not None:
            return Missed(example.id, reply.failure, reply.why)
        if not reply.candidates:
            raise TeacherError(f"row {example.id!r}: expected at least one answer or a failure, found neither")
        settings = self.settings
        order = rank(reply.candidates, example.target, settings.choose, reverse=apart, weight=settings.reverse_weight)
        kept = [order[0]]
        for place in order[1:]:
            if len(kept) < settings.keep and reply.candidates[place].text not in {reply.candidates[one].text for one in kept}:
                kept.append(place)
        best = reply.candidates[kept[0]]
        return Label(
            id=example.id,
            source=source_digest(example),
            text=best.text,
            logprob=_rounded(best.logprob),
            finish_reason=best.finish_reason,
            reverse=_rounded(apart[kept[0]]) if apart else None,
            others=tuple(_other(reply.candidates[place], apart[place] if apart else None) for place in kept[1:]),
            fewer=_fewer(reply, settings.candidates),
        )


def _readable(reply: Reply) -> Reply:
    """A reply in Unicode text: what was paid for must be kept, so that half a character gives way to the sign for what is lost."""
    if not any(map(_SURROGATES.search, (reply.why, *(one.text for one in reply.candidates)))):
        return reply
    candidates = tuple(replace(one, text=_SURROGATES.sub("\ufffd", one.text)) for one in reply.candidates)
    return replace(reply, candidates=candidates, why=_SURROGATES.sub("\ufffd", reply.why))


def _fewer(reply: Reply, asked: int) -> str | None:
    """What is to be said of a reply with fewer answers than were asked for."""
    came = len(reply.candidates)
    return None if came >= asked else f"{came} of {asked} answers came{f' ({reply.why})' if reply.why else ''}"


def _other(candidate: Candidate, apart: float | None) -> OtherAnswer:
    return OtherAnswer(
        text=candidate.text,
        logprob=_rounded(candidate.logprob),
        finish_reason=candidate.finish_reason,
        reverse=_rounded(apart),
    )


def _rounded(value: float | None) -> float | None:
    """What JSON can hold: an infinite cross-entropy is one that is not known."""
    return None if value is None or not isfinite(value) else round(value, 4)

"""What labelling asks of a teacher, whatever it is: one method, and one form of answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Failure: TypeAlias = Literal["refused", "timeout", "unavailable", "malformed", "budget"]
"""Why there is no answer: the teacher declined, did not answer in time, could not be reached, gave something that is no answer,
or may not be asked any more. Only a refusal is final; a later call asks the others again."""


@dataclass(frozen=True, slots=True)
class Question:
    """One input to answer."""

    fields: Mapping[str, str]
    """The input, by field of the template."""
    seed: int = 0
    """Fixes what is drawn, whatever else is asked beside it, where the teacher's chance can be fixed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How to ask."""

    candidates: int = 1
    """Answers to give to each question."""
    beams: int = 1
    """1 answers greedily, more by beam search."""
    temperature: float = 0.0
    """Above 0 the answers are drawn at this temperature."""
    max_new_tokens: int | None = None
    """Longest answer in tokens; the teacher's own if not given."""
    batch_size: int = 64
    """Questions that go through a model together."""
    bf16: bool = True
    """Compute in bfloat16, where the teacher computes here and the device has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One answer to a question."""

    text: str
    """The answer."""
    logprob: float | None = None
    """Sum of the log-probabilities of its tokens; None where the teacher does not tell."""
    mean_logprob: float | None = None
    """Mean of the same, by which answers of unlike length compare."""
    finish_reason: Literal["stop", "length"] = "stop"
    """``length`` where a budget cut the answer off."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a teacher gave to one question: answers, or why there are none."""

    candidates: tuple[Candidate, ...] = ()
    """At least one unless it failed, likeliest first where the teacher knows."""
    failure: Failure | None = None
    """Why there is none."""
    why: str = ""
    """The failure in words; beside answers, why there are fewer than were asked for."""


class Teacher(Protocol):
    """Whatever answers questions. It can be pickled where several processes are to ask it: each then loads its own."""

    @property
    def id(self) -> str:
        """Fingerprint of everything that decides its answers; labels are bound to it."""
        ...

    @property
    def concurrency(self) -> int:
        """Calls of ``ask``, of one question each, that it takes at a time from threads; 0 for what computes in this process, and
        likes many questions at once.
        """
        ...

    def ask(self, questions: Sequence[Question], how: Asking) -> list[Reply]:
        """Answer questions.

        Args:
            questions: At least one.
            how: What kind of answers.

        Returns:
            One reply for each question, in their order.

        Raises:
            PocketSeqError: it cannot answer at all, or not in the way that was asked for.
        """
        ...

    def close(self) -> None:
        """End what is under way and let go of what is held open; asked again, it opens it again."""
        ...

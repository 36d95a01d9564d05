"""Labels and how they are made: the records that labelling writes and reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import Example
from pocketseq.files import digest
from pocketseq_distill.labelling.choice import Choice
from pocketseq_distill.labelling.teacher import Asking

Finish: TypeAlias = Literal["stop", "length", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """How the teacher labels."""

    rows: int | None = None
    """Rows to label, from the first; None for all."""
    beams: int = 1
    """1 labels greedily, more by beam search."""
    candidates: int = 1
    """Answers that are asked for each row: the best of the beams, or samples where there is a temperature. Labels of rows that got
    fewer are counted."""
    temperature: float = 0.0
    """Above 0 the candidates are drawn at this temperature."""
    choose: Choice = "likeliest"
    """Which candidates are kept."""
    keep: int = 1
    """Unlike candidates that are kept of each row, the best first, each a row of its own to learn from: many sampled targets for
    an input help where there is little data (Calderon et al. 2023, "A Systematic Study of Knowledge Distillation for NLG")."""
    reverse: str | None = None
    """Checkpoint of a model from answers to inputs, found as teachers are; labels then tell its cross-entropy, for
    ``choose = "reverse"`` and the filter ``reverse_worst``."""
    reverse_weight: float = 1.0
    """Weight of the reverse model beside the teacher's own score in ``choose = "reverse"``."""
    batch_size: int = 64
    """Rows that go through the teacher together; a kill costs at most eight times as many."""
    max_new_tokens: int | None = None
    """Longest answer in tokens; the teacher's own if not given."""
    bf16: bool = True
    """Compute in bfloat16 where the device has instructions for it: twice the rows in the same time on a CPU, and another answer
    only where two were as good as equal."""
    processes: int = 1
    """Processes on this machine that share the rows, each with a teacher of its own."""
    ray_workers: int = 0
    """Workers of a Ray cluster that share the rows instead; 0 does without. They must find the teacher under the same path."""

    def __post_init__(self) -> None:
        least = {"rows": 1, "beams": 1, "candidates": 1, "keep": 1, "batch_size": 1, "processes": 1, "ray_workers": 0}
        for name, bound in {**least, "temperature": 0, "reverse_weight": 0}.items():
            if (found := getattr(self, name)) is not None and not found >= bound:  # nor is it what is no number
                raise RecipeError(f"[label]: expected {name} of {bound} or more, found {found}")
        if self.keep > self.candidates:
            raise RecipeError(f"[label]: expected to keep at most the {self.candidates} candidates, found keep = {self.keep}")
        if self.choose == "reverse" and self.reverse is None:
            raise RecipeError(
                '[label]: expected a reverse model for choose = "reverse", found none; name its checkpoint in reverse'
            )
        if self.processes > 1 and self.ray_workers:
            raise RecipeError("[label]: expected processes or ray_workers, found both; leave one out")

    @property
    def asking(self) -> Asking:
        """How the teacher is asked."""
        return Asking(
            candidates=self.candidates,
            beams=self.beams,
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            bf16=self.bf16,
        )

    def claim(self, teacher_id: str, reverse_id: str | None) -> dict[str, Any]:
        """What decides a label besides its row: labels with unlike claims never share a file."""
        names = ("beams", "candidates", "temperature", "choose", "max_new_tokens", "bf16")
        claim = {"teacher": teacher_id, **{name: getattr(self, name) for name in names}}
        if self.keep > 1:
            claim["keep"] = self.keep
        if reverse_id is not None:
            claim |= {"reverse": reverse_id, "reverse_weight": self.reverse_weight}
        return claim


@dataclass(frozen=True, slots=True)
class OtherAnswer:
    """A further answer of the teacher to a row, to learn from too."""

    text: str
    logprob: float | None
    """See ``Label.logprob``."""
    finish_reason: Finish
    """See ``Label.finish_reason``."""
    reverse: float | None = None
    """See ``Label.reverse``."""


@dataclass(frozen=True, slots=True)
class Label:
    """The teacher's answer to one row."""

    id: str
    """Id of the row."""
    source: str
    """Digest of the row's input, so that an answer can never sit beside another row's input."""
    text: str
    """The answer, read by the template; empty where the teacher refused."""
    logprob: float | None
    """Sum of the log-probabilities of the answer's tokens; None where the teacher does not tell."""
    finish_reason: Finish
    """``stop``, ``length`` where the budget cut the answer off, or ``refused``."""
    reverse: float | None = None
    """Cross-entropy of the input given the answer by a reverse model, nats a token; None where none was asked."""
    others: tuple[OtherAnswer, ...] = ()
    """Further answers to learn from, best first."""
    fewer: str | None = None
    """How many of the answers that were asked for came, and why no more, in words; None where all did."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what says nothing is left out."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ()) or name == "logprob"}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Label:
        """Read a label.

        Raises:
            TypeError: a missing or unknown key, or a value of another type.
        """
        label = cls(**{**value, "others": tuple(OtherAnswer(**other) for other in value.get("others", ()))})
        if not all(isinstance(text, str) for text in (label.id, label.source, label.text, label.finish_reason)):
            raise TypeError("id, source, text and finish_reason must be strings")
        return label


def source_digest(example: Example) -> str:
    """Digest of what the teacher is asked.

    Raises:
        DataError: id or input is no Unicode text, so that a label of it could not be written.
    """
    try:
        example.id.encode("utf-8")
        return digest(dict(example.fields))
    except UnicodeEncodeError:
        raise DataError(
            f"row {example.id!r}: expected Unicode text as id and fields, found a lone surrogate; "
            "decode the source with the right encoding or errors='replace'"
        ) from None

"""Filters: which of the teacher's answers a student learns from, with a count and samples of what each filter removed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final, Literal, TypeAlias

from pocketseq.errors import RecipeError
from pocketseq.examples import Example
from pocketseq.template import Template
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.labelling.labels import Label, source_digest
from pocketseq_distill.labelling.refusals import refuses

Removal: TypeAlias = Literal[
    "unlabelled", "refused", "empty", "truncated", "wrong", "long", "repetitive", "unlikely", "inexpressible", "duplicate"
]
"""Why a row is gone: the teacher was not asked, declined, answered nothing, did not come to an end, differs from the reference,
went on for too long, said the same over and over, gave an answer that hardly tells its input, cannot be written in the template's
output form, or the same input and answer was there before."""

_SAMPLES: Final = 5
_LONGEST_RUN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSettings:
    """What to keep."""

    wrong: Literal["keep", "drop", "reference"] = "keep"
    """What to do with an answer that differs from the reference: learn it as the teacher's, leave the row out, or learn the
    reference instead, which then stands in for empty and unfinished answers too."""
    unlabelled: Literal["drop", "reference"] = "drop"
    """What to do with a row that the teacher was not asked about."""
    longest_ratio: float | None = None
    """Characters of an answer for each of the primary field, above which the teacher has lost its way; None sets no bound."""
    repetitions: int | None = None
    """How often in a row an answer may say the same few words; None sets no bound. More often is what a model says that is lost."""
    refusals: Literal["drop", "keep"] = "drop"
    """What to do with an answer that is a refusal in plain words (see ``refusals``), though the input is none; keep them where
    people speak so, as in dialogues. What a teacher says apart from its answers, as an endpoint may, is never an answer."""
    reverse_worst: float | None = None
    """Share of the teacher's answers that go for having the highest cross-entropy of the input given the answer, by the labels'
    reverse model; 0.05 is what Bergamot's pipeline drops. None keeps them."""

    def __post_init__(self) -> None:
        if self.reverse_worst is not None and not 0 <= self.reverse_worst < 1:
            raise RecipeError(f"[filter]: expected reverse_worst from 0 to below 1, found {self.reverse_worst}")
        for name in ("longest_ratio", "repetitions"):
            if (found := getattr(self, name)) is not None and found <= 0:
                raise RecipeError(f"[filter]: expected {name} above 0, found {found}")


@dataclass(frozen=True, slots=True)
class Filtered:
    """What the filters left."""

    rows: list[Example]
    """The rows to learn from; ``target`` is the answer that was chosen."""
    removed: Mapping[Removal, int]
    """Rows removed, by reason."""
    samples: Mapping[Removal, list[dict[str, Any]]]
    """A few of the removed rows, to look at."""
    references: int
    """Rows in which the reference stands in for the teacher's answer."""
    agreement: float | None
    """Share of labelled rows in which the teacher's answer is the reference, the first answer where several are kept; None where
    nothing was labelled."""

    def __str__(self) -> str:
        removed = ", ".join(f"{count} {reason}" for reason, count in self.removed.items()) or "none"
        answers = len(self.rows) + sum(self.removed.values())
        stand_in = f"; {self.references} references stand in for answers" if self.references else ""
        return f"{len(self.rows)} of {answers} answers to learn from; removed: {removed}{stand_in}"

    def to_json(self) -> dict[str, Any]:
        """Counts and samples as plain JSON values."""
        return {
            "kept": len(self.rows),
            "removed": dict(self.removed),
            "references": self.references,
            "agreement": self.agreement,
            "samples": dict(self.samples),
        }


def filter_rows(
    examples: Iterable[Example],
    labels: Mapping[str, Label],
    template: Template,
    tokenizer: TextTokenizer,
    settings: FilterSettings,
) -> Filtered:
    """Choose a target for every row, and leave out rows that have none worth learning.

    Args:
        examples: The rows with their references.
        labels: The teacher's answers by id.
        template: The output form.
        tokenizer: The student's tokenizer.
        settings: What to keep.

    Raises:
        RecipeError: a bound on what a reverse model says, and labels without it; or a choice by references that no row has.
    """
    examples = list(examples)
    _require_references(examples, settings)
    kept: list[Example] = []
    removed: Counter[Removal] = Counter()
    samples: defaultdict[Removal, list[dict[str, Any]]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    references = 0
    labelled = [(example, label) for example in examples if (label := labels.get(example.id))]
    agreed = sum(label.text == example.target for example, label in labelled)
    bound = _reverse_bound([label for _, label in labelled], settings)
    for example, label in _answers(examples, labels):
        target, reason = _target(example, label, settings)
        if target is not None and label is not None and target == label.text != example.target:
            reason = _fault(label, example.fields[template.primary], settings, bound)
            target = None if reason else target
        if target is not None and template.encode_target(tokenizer, template.encode(tokenizer, example.fields), target) is None:
            target, reason = None, "inexpressible"
        if target is not None:
            key = (source_digest(example), target)
            if key in seen:
                target, reason = None, "duplicate"
            seen.add(key)
        if target is None:
            assert reason is not None
            removed[reason] += 1
            if len(samples[reason]) < _SAMPLES:
                samples[reason].append({"id": example.id, "target": example.target, "label": None if label is None else label.text})
            continue
        references += label is None or label.text != target
        kept.append(replace(example, target=target))
    return Filtered(kept, removed, samples, references, agreed / len(labelled) if labelled else None)


def _require_references(examples: Sequence[Example], settings: FilterSettings) -> None:
    """Refuse references that no row has; where some rows have one, an empty one is a true answer like any other."""
    asked = {name: value for name in ("wrong", "unlabelled") if (value := getattr(settings, name)) == "reference"}
    if asked and examples and not any(example.target for example in examples):
        raise RecipeError(
            f"[filter]: expected references for {' and '.join(f'{name} = {value!r}' for name, value in asked.items())}, found "
            f"{len(examples)} rows without; leave it out to learn what the teacher answers"
        )


def _answers(examples: Iterable[Example], labels: Mapping[str, Label]) -> Iterator[tuple[Example, Label | None]]:
    """Every row with its answer; a further answer makes a row of its own."""
    for example in examples:
        label = labels.get(example.id)
        yield example, label
        if label is None:
            continue
        for number, other in enumerate(label.others, start=2):
            yield (
                replace(example, id=f"{example.id}#{number}"),
                replace(label, text=other.text, logprob=other.logprob, finish_reason=other.finish_reason, reverse=other.reverse),
            )


def _reverse_bound(labels: Sequence[Label], settings: FilterSettings) -> float:
    """The cross-entropy of the input that is the highest to be kept."""
    if settings.reverse_worst is None:
        return inf
    known = sorted(label.reverse for label in labels if label.reverse is not None)
    if not known:
        if not labels:
            return inf
        raise RecipeError(
            "[filter]: expected labels with the cross-entropy of a reverse model for reverse_worst, found none; "
            "name one as reverse in [label]"
        )
    return known[max(0, len(known) - int(settings.reverse_worst * len(known)) - 1)]


def _fault(label: Label, source: str, settings: FilterSettings, bound: float) -> Removal | None:
    """What is wrong with an answer that the reference need not tell."""
    answer = label.text
    if bound < inf and (label.reverse is None or label.reverse > bound):
        return "unlikely"
    if settings.longest_ratio is not None and len(answer) > settings.longest_ratio * len(source):
        return "long"
    if settings.repetitions is not None and _repetitions(answer.split()) > settings.repetitions:
        return "repetitive"
    return None


def _repetitions(words: list[str]) -> int:
    """How often the most repeated run of up to four words follows itself, itself counted."""
    most = 1
    for size in range(1, _LONGEST_RUN + 1):
        count = 1
        for place in range(size, len(words)):
            # Every run of matches at this distance is a run of repetitions.
            count = count + 1 if words[place] == words[place - size] else 1
            most = max(most, 1 + (count - 1) // size)
    return most


def _target(example: Example, label: Label | None, settings: FilterSettings) -> tuple[str | None, Removal | None]:
    """The answer to learn, or why there is none."""
    if label is None:
        return (example.target, None) if settings.unlabelled == "reference" else (None, "unlabelled")
    if label.text == example.target:
        return label.text, None
    if settings.wrong == "reference":
        return example.target, None
    if label.finish_reason == "refused" or (settings.refusals == "drop" and _declines(label, example)):
        return None, "refused"
    if not label.text.strip():
        return None, "empty"
    if label.finish_reason == "length":
        return None, "truncated"
    return (label.text, None) if settings.wrong == "keep" else (None, "wrong")


def _declines(label: Label, example: Example) -> bool:
    """Whether the answer is a refusal in plain words, and neither the input nor the reference is."""
    return refuses(label.text) and not any(map(refuses, (*example.fields.values(), example.target)))

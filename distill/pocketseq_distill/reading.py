"""Reading: the rows of a training in the tokens of its student, which may not be its teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from transformers import PreTrainedModel

from pocketseq.checkpoint import CheckpointCard
from pocketseq.examples import Example
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.corpus.vocabulary import END_ID, learn_tokenizer
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.losses.spans import common_ends, teacher_spans
from pocketseq_distill.rows import Tokenized, TokenRows, tokenize
from pocketseq_distill.special_ids import SpecialIds
from pocketseq_distill.students.beginnings import spellings_of
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.students.student import student_of
from pocketseq_distill.tokenizer import read_tokenizer
from pocketseq_distill.training.plan import TrainingPlan

_LONGER: Final = 4
"""How many tokens of a small vocabulary may stand for one of a large one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a student reads, and how."""

    tokenized: Tokenized
    """Its rows, with a teacher's spans where the plan asks for them."""
    tokenizer: TextTokenizer
    folder: Path
    """Directory of that tokenizer."""
    card: CheckpointCard
    """Template and longest answer, in the student's tokens."""


def read_rows(
    teacher: TeacherModel,
    teacher_path: Path,
    examples: Sequence[Example],
    folder: Path,
    *,
    student: StudentSettings,
    plan: TrainingPlan,
) -> Reading:
    """Turn examples into rows in the teacher's tokens, or in those of a vocabulary learnt from them.

    Args:
        teacher: The teacher.
        teacher_path: Its directory.
        examples: What to learn.
        folder: Where a tokenizer of the student's own goes; one that was learnt from the same is kept for a killed training.
        student: Says whether it has a vocabulary of its own.
        plan: Says whether it learns from spans.

    Raises:
        RecipeError: a loss that does not go with the vocabulary.
    """
    plan.require_readable(own_vocabulary=student.vocab_size is not None)
    special = SpecialIds.of(teacher.model)
    theirs = tokenize(
        examples,
        teacher.card.template,
        teacher.tokenizer,
        end_id=special.end,
        max_target_tokens=teacher.card.max_new_tokens,
        given=special.given,
    )
    if student.vocab_size is None:
        return Reading(theirs, teacher.tokenizer, teacher_path, teacher.card)
    learn_tokenizer(examples, folder, vocab_size=student.vocab_size, template=teacher.card.template)
    tokenizer = read_tokenizer(folder, teacher.card.template)
    longest = _LONGER * teacher.card.max_new_tokens
    own = tokenize(examples, teacher.card.template, tokenizer, end_id=END_ID, max_target_tokens=longest)
    answers = [len(own.rows[place]["labels"]) for place in range(len(own.rows))]
    card = replace(teacher.card, max_new_tokens=max([teacher.card.max_new_tokens, *answers]))
    if plan.spans:
        own = replace(own, rows=_with_spans(own, tokenizer, theirs, teacher, bf16=plan.bf16))
    return Reading(own, tokenizer, folder, card)


def student_as_read(teacher: PreTrainedModel, settings: StudentSettings, reading: Reading, *, seed: int) -> PreTrainedModel:
    """Make the student that reads so; a vocabulary of its own is as large as it came out (see ``student_of``)."""
    size = None if settings.vocab_size is None else reading.tokenizer.size
    spellings = spellings_of(reading.tokenizer)
    return student_of(teacher, replace(settings, vocab_size=size), reading.tokenized.rows, seed=seed, spellings=spellings)


def _with_spans(own: Tokenized, tokenizer: TextTokenizer, theirs: Tokenized, teacher: TeacherModel, *, bf16: bool) -> TokenRows:
    """The student's rows with what the teacher says of common spans; a row that the teacher cannot read has none."""
    common = sorted(set(own.places) & set(theirs.places))
    ours, others = _chosen(own, common), _chosen(theirs, common)
    given = len(SpecialIds.of(teacher.model).given)
    ends = [
        common_ends(tokenizer, ours[row]["labels"].tolist(), teacher.tokenizer, others[row]["labels"][given:].tolist())
        for row in range(len(common))
    ]
    found = teacher_spans(ours, teacher.model, others, ends, given=given, bf16=bf16)
    spans = np.full(len(own.rows.label_ids), np.nan, dtype=np.float32)
    number = {place: row for row, place in enumerate(own.places)}
    for row, place in enumerate(common):
        begin = own.rows.label_offsets[number[place]]
        part = found[ours.label_offsets[row] : ours.label_offsets[row + 1]]
        spans[begin : begin + len(part)] = part
    return replace(own.rows, spans=spans)


def _chosen(tokenized: Tokenized, places: Sequence[int]) -> TokenRows:
    """The rows of some examples."""
    number = {place: row for row, place in enumerate(tokenized.places)}
    return tokenized.rows.take([number[place] for place in places])

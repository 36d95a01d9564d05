"""A run whose gap is measured: its models, its rows, and the trainings that are compared."""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketseq.errors import CheckpointError, DataError, RecipeError
from pocketseq.examples import Example, read_examples
from pocketseq.metrics import chrf
from pocketseq.records import read_record
from pocketseq_distill.console import quiet_transformers
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.rows import TokenRows, tokenize
from pocketseq_distill.special_ids import SpecialIds
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.validation import held_out

Scores: TypeAlias = NDArray[np.float64]
"""float64 [rows], 0…1: whether each answer is right, or its chrF where the training was judged by that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapSettings:
    """How much is measured."""

    rows: int = 400
    """Held-out rows, from the start of the validation split."""
    updates: int = 60
    """Further updates of each of the trainings that are compared."""
    subset: int = 64
    """Training rows that teacher and student learn by heart, for the capacity."""
    subset_updates: int = 120
    """Updates that they have for it."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if (found := getattr(self, one.name)) < 1:
                raise RecipeError(f"expected {one.name} of 1 or more to measure a gap by, found {found}")


@dataclass(frozen=True, slots=True)
class GapRun:
    """What the measurements share."""

    directory: Path
    teacher: TeacherModel
    student: TeacherModel
    plan: TrainingPlan
    held_out: list[Example]
    learnt: list[Example]
    references: list[Example]
    settings: GapSettings

    def judge(self, model: TeacherModel, examples: Sequence[Example]) -> Scores:
        """Answer rows greedily, and score each."""
        answers = model.answer([example.fields for example in examples], batch_size=64)
        return self.scores([answer.text for answer in answers], examples)

    def scores(self, texts: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score given answers to rows."""
        pairs = [(text, example.target) for text, example in zip(texts, examples, strict=True)]
        if self.plan.judged_by == "chrf":
            return np.array([chrf([text], [target]) for text, target in pairs])
        return np.array([float(text == target) for text, target in pairs])

    def with_weights(self, source: TeacherModel, examples: Sequence[Example], plan: TrainingPlan) -> TeacherModel:
        """A copy of a model after further training on examples."""
        model = copy.deepcopy(source.model).requires_grad_(True)  # a teacher that was asked in an earlier training is frozen
        teaches = plan.divergence > 0 and source.model.config.vocab_size == self.teacher.model.config.vocab_size
        with tempfile.TemporaryDirectory() as folder, quiet_transformers():
            teacher = self.teacher.model if teaches else None
            train(model, self.tokens(source, examples), plan, state_dir=Path(folder), teacher=teacher)
        return TeacherModel(model.eval(), source.tokenizer, source.card)

    def tokens(self, model: TeacherModel, examples: Sequence[Example]) -> TokenRows:
        """Rows in a model's tokens; those that it cannot say are left out."""
        special, longest = SpecialIds.of(model.model), model.card.max_new_tokens
        return tokenize(
            examples, model.card.template, model.tokenizer, end_id=special.end, max_target_tokens=longest, given=special.given
        ).rows


def read_run(directory: Path, settings: GapSettings) -> GapRun:
    """Open a run after its training; see ``attribute_gap``."""
    files = {name: directory / name for name in ("data/validation.jsonl", "data/train.jsonl", "filtered/train.jsonl")}
    for path in files.values():
        if not path.is_file():
            raise DataError(f"{path}: expected the rows of a run after its training, found none; run the recipe first")
    validation, references, learnt = (list(read_examples(path)) for path in files.values())
    if not validation:
        raise DataError(f"{directory}/data/validation.jsonl: expected held-out rows, found none")
    student = TeacherModel.load(directory / "student")
    if "train" not in student.card.recipe:
        raise CheckpointError(
            f"{directory}/student: expected the plan of its training on its card, found none; train it with this tool"
        )
    plan = json.loads(json.dumps(student.card.recipe["train"]))
    return GapRun(
        directory=directory,
        teacher=TeacherModel.load(directory / "teacher"),
        student=student,
        plan=read_record(TrainingPlan, plan, where=f"{directory}/student", error=CheckpointError),
        held_out=held_out(validation, [*references, *learnt])[: settings.rows],  # the teacher learnt rows that filters removed
        learnt=learnt,
        references=references,
        settings=settings,
    )


def say(words: str) -> None:
    """Tell what is being measured."""
    print(f"gap: {words}", file=sys.stderr)

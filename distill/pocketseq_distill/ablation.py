"""Ablation: the same training with one setting at several values and several seeds, and what each comes to on held-out rows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from transformers import PreTrainedModel

from pocketseq.calibration.measures import Array, Interval, deferral_area, interval, resamplings, separation
from pocketseq.errors import RecipeError
from pocketseq.pipeline import Recipe
from pocketseq.records import plain
from pocketseq_distill.checkpoints import checkpoint_fingerprint
from pocketseq_distill.console import quiet_transformers
from pocketseq_distill.distil import Data, beginning
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.distributions import teacher_distributions
from pocketseq_distill.reading import Reading, read_rows, student_as_read
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.students.student import layer_map
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.rounding import Int8Verdict, rounded, tune_for_int8
from pocketseq_distill.training.validation import HeldOutAnswers, held_out

_DEFERRED: Final = 0.3
"""Share of the answers that ``Outcome.with_cloud`` hands over."""
_HELD: Final = {
    "train.seed": "each value is trained with the same seeds, as many as --seeds says",
    "train.patience": "all trainings make as many updates, so that none stops sooner than another",
}
"""Settings that are the same for all values, and what to do about them."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a student was worth in the course of its training."""

    step: int
    """Updates made."""
    exact_match: float
    """Share of held-out rows that it answers as the reference does."""
    loss: float | None
    """Training loss at about that time; None where none was told yet."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What students are worth, each with the range of 95% of the bootstrap resamplings of held-out rows."""

    exact_match: Interval
    """Of the students as they end."""
    int8_exact_match: Interval
    """The same computed as the int8 export does (see ``rounding``)."""
    auroc: Interval
    """Of the mean log-probability of an answer's tokens: whether right answers have more than wrong ones."""
    deferral_area: Interval
    """Between the curve of deferring to a cloud that is always right, the least likely answers first, and deferring by chance."""
    with_cloud: Interval
    """Exact match of student and such a cloud together, where the least likely three in ten answers are handed over."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a value."""

    seed: int
    """Of what is random in the student, the order of rows and dropout."""
    curve: tuple[Point, ...]
    """By validation; the first is the student before its first update."""
    exact_match: float
    int8_exact_match: float
    int8: Int8Verdict | None
    """With ``int8_steps`` what they were worth by these rows, beside as many updates without rounding."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One value of the setting."""

    value: Any
    trainings: tuple[Training, ...]
    """One a seed."""
    mean: Measures
    """Means over the seeds."""
    over_first: Measures | None
    """These means less those of the first value, row by row; None for the first itself."""


def vary(
    recipe: Recipe,
    setting: str,
    values: Sequence[Any],
    *,
    teacher_path: Path,
    data: Data,
    folder: Path,
    seeds: Sequence[int] = (0,),
) -> list[Outcome]:
    """Train students for each value of one setting, everything else the same, seeds and order of rows too.

    Args:
        recipe: Its tables ``[student]`` and ``[train]`` hold.
        setting: ``student.NAME`` or ``train.NAME``.
        values: What it is set to in turn.
        teacher_path: The teacher.
        data: What is learnt, and what it is measured on.
        folder: For the trainings; gone afterwards. Killed at any moment, the same call goes on.
        seeds: One training of each value for each.

    Raises:
        RecipeError: no such setting, one that all values share, a value that it does not take, or losses that do not go with the
            student's vocabulary.
        DataError: every validation row is trained on.
    """
    table, _, name = setting.partition(".")
    if table not in ("student", "train") or not name:
        raise RecipeError(f"expected a setting such as student.start or train.doubt, found {setting!r}")
    if setting in _HELD:
        raise RecipeError(f"expected a setting that an ablation leaves to its values, found {setting!r}; {_HELD[setting]}")
    every = [{**recipe.tables, table: {**recipe.table(table), name: value}} for value in values]
    for varied in every:  # before hours go by with the values that come first
        one = replace(recipe, tables=varied)
        student, plan = one.settings("student", StudentSettings), one.settings("train", TrainingPlan)
        plan.require_readable(own_vocabulary=student.vocab_size is not None)
    bench = _Bench(teacher_path, data, folder)
    outcomes: list[Outcome] = []
    first: list[_Trained] = []
    for number, (value, varied) in enumerate(zip(values, every, strict=True)):
        trained = []
        for seed in seeds:
            print(f"{setting} = {value!r}, seed {seed}", file=sys.stderr)
            seeded = {**varied, "train": {**varied.get("train", {}), "seed": seed}}
            trained.append(bench.train(replace(recipe, tables=seeded), folder / f"{number}-{seed}"))
        first = first or trained
        over_first = None if trained is first else bench.compare(trained, first)
        outcomes.append(Outcome(value, tuple(one.training for one in trained), bench.compare(trained, []), over_first))
    shutil.rmtree(folder, ignore_errors=True)
    return outcomes


@dataclass(frozen=True, slots=True)
class _Asked:
    """How held-out rows were answered."""

    right: Array
    """1 or 0 by row."""
    confidences: Array


@dataclass(frozen=True, slots=True)
class _Trained:
    training: Training
    asked: _Asked
    as_int8: _Asked


class _Bench:
    """What all trainings of an ablation share: teacher, rows, and by what students are measured."""

    def __init__(self, teacher_path: Path, data: Data, folder: Path) -> None:
        self._folder = folder
        self._learnt = data.train
        self._teacher_path = teacher_path
        self._teacher_id = checkpoint_fingerprint(teacher_path)
        self._teacher = TeacherModel.load(teacher_path)
        self._held_out = held_out(data.validation, data.train)
        self._readings: dict[tuple[int | None, bool, bool], Reading] = {}
        self._weights = resamplings(len(self._held_out), seed=0)

    def read(self, settings: StudentSettings, plan: TrainingPlan) -> Reading:
        """The rows as a student reads them: once for all students that read alike, as a teacher is asked for their spans."""
        key = settings.vocab_size, bool(plan.spans), bool(plan.spans) and plan.bf16
        if key not in self._readings:
            own = self._folder / f"tokenizer-{settings.vocab_size}"
            self._readings[key] = read_rows(self._teacher, self._teacher_path, self._learnt, own, student=settings, plan=plan)
        return self._readings[key]

    def train(self, recipe: Recipe, folder: Path) -> _Trained:
        """Train one student and measure it."""
        plan, settings = recipe.settings("train", TrainingPlan), recipe.settings("student", StudentSettings)
        plan = replace(plan, patience=None)
        teacher, reading = self._teacher.model, self.read(settings, plan)
        model = student_as_read(teacher, settings, reading, seed=plan.seed)
        validation = HeldOutAnswers(self._held_out, reading.tokenizer, reading.card)
        before = validation(model)["exact_match"]
        rows, asked_along = self._taught(reading.tokenized.rows, plan)
        layers = layer_map(teacher, settings) if plan.hidden or plan.attention else None
        with quiet_transformers():
            trained = train(
                model,
                rows,
                plan,
                state_dir=folder,
                teacher=asked_along,
                layers=layers,
                validation=validation,
                origin=beginning(self._teacher_id, settings),
            )
            verdict = None
            if plan.int8_steps:
                verdict = tune_for_int8(
                    model,
                    rows,
                    plan,
                    state_dir=folder / "int8",
                    validation=validation,
                    teacher=asked_along,
                    layers=layers,
                )
        answering = TeacherModel(model.eval(), reading.tokenizer, reading.card)
        asked = self._ask(answering)
        with rounded(model):
            as_int8 = self._ask(answering)
        curve = (Point(0, before, None), *_curve(trained.history))
        training = Training(plan.seed, curve, float(asked.right.mean()), float(as_int8.right.mean()), verdict)
        return _Trained(training, asked, as_int8)

    def _taught(self, rows: TokenRows, plan: TrainingPlan) -> tuple[TokenRows, PreTrainedModel | None]:
        """The rows with what the teacher says of them, or the teacher itself."""
        if plan.divergence and plan.top_k:
            shards = self._folder / f"distributions-{plan.top_k}{'-bf16' if plan.bf16 else ''}"
            found = teacher_distributions(
                rows, lambda: self._teacher.model, shards, teacher_id=self._teacher_id, top_k=plan.top_k, bf16=plan.bf16
            )
            return replace(rows, distributions=found), None
        asks = plan.divergence or plan.hidden or plan.attention
        return rows, self._teacher.model if asks else None

    def _ask(self, answering: TeacherModel) -> _Asked:
        answers = answering.answer([example.fields for example in self._held_out], batch_size=64)
        right = [float(answer.text == example.target) for answer, example in zip(answers, self._held_out, strict=True)]
        return _Asked(np.array(right), np.array([np.mean(answer.token_logprobs) for answer in answers]))

    def compare(self, some: Sequence[_Trained], others: Sequence[_Trained]) -> Measures:
        """Means of some trainings, less those of others where there are any, on the same resamplings of the rows."""

        def measured(measure: _Measure, as_int8: bool = False) -> Interval:
            def mean(trainings: Sequence[_Trained], weights: Array | None) -> Array:
                asked = [one.as_int8 if as_int8 else one.asked for one in trainings]
                found: Array = np.mean([measure(one, weights) for one in asked], axis=0)
                return found

            return interval(lambda weights: mean(some, weights) - (mean(others, weights) if others else 0.0), self._weights)

        return Measures(
            exact_match=measured(_exact_match),
            int8_exact_match=measured(_exact_match, as_int8=True),
            auroc=measured(_separation),
            deferral_area=measured(lambda one, weights: deferral_area(one.confidences, 1.0 - one.right, weights)),
            with_cloud=measured(_with_cloud),
        )


_Measure: TypeAlias = Callable[[_Asked, Array | None], Array]
"""(how rows were answered, weights as in ``calibration.measures``) → float64 [resamplings], or one number without weights."""


def _exact_match(asked: _Asked, weights: Array | None) -> Array:
    found: Array = np.array(asked.right.mean()) if weights is None else weights @ asked.right / asked.right.size
    return found


def _separation(asked: _Asked, weights: Array | None) -> Array:
    """AUROC; where all answers are alike nothing can be told apart, which is as good as chance."""
    found: Array = np.nan_to_num(separation(asked.confidences, 1.0 - asked.right, weights), nan=0.5)
    return found


def _with_cloud(asked: _Asked, weights: Array | None) -> Array:
    """Share of right answers where the least confident go to a cloud that is always right."""
    order = np.argsort(asked.confidences, kind="stable")
    counts = (np.ones((1, asked.right.size)) if weights is None else weights)[:, order]
    room = _DEFERRED * asked.right.size - (np.cumsum(counts, axis=1) - counts)
    local = counts - np.clip(room, 0.0, counts)
    found: Array = 1.0 - local @ (1.0 - asked.right[order]) / asked.right.size
    return found if weights is not None else found.reshape(())


def _curve(history: Sequence[Mapping[str, Any]]) -> list[Point]:
    points, loss = [], None
    for entry in history:
        loss = entry.get("loss", loss)
        if "eval_exact_match" in entry:
            points.append(Point(int(entry["step"]), float(entry["eval_exact_match"]), loss))
    return points


def to_json(setting: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The outcomes as plain JSON values."""
    return {"setting": setting, "outcomes": plain(tuple(outcomes))}

"""Ablation: the same training with one setting at several values, and what each comes to on held-out rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from pocketseq.calibration.measures import Array, Interval, deferral_area, interval, resamplings, separation
from pocketseq.errors import RecipeError
from pocketseq.examples import Example
from pocketseq.pipeline import Recipe
from pocketseq.records import plain
from pocketseq_distill.console import quiet_transformers
from pocketseq_distill.distil import Data
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.rows import tokenize
from pocketseq_distill.students.student import StudentSettings, layer_map, student_of
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.rounding import rounded


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
class Outcome:
    """One value of the setting."""

    value: Any
    curve: tuple[Point, ...]
    """By validation; the first is the student before its first update."""
    exact_match: Interval
    """Of the student as it ends."""
    int8_exact_match: Interval
    """The same computed as the int8 export does (see ``rounding``)."""
    auroc: Interval
    """Of the mean log-probability of an answer's tokens: whether right answers have more than wrong ones."""
    deferral_area: Interval
    """Between the curve of deferring to a cloud that is always right, the least likely answers first, and deferring by chance."""


def vary(recipe: Recipe, setting: str, values: Sequence[Any], *, teacher_path: Path, data: Data, folder: Path) -> list[Outcome]:
    """Train a student for each value of one setting, everything else the same, seeds and order of rows too.

    Args:
        recipe: Its tables ``[student]`` and ``[train]`` hold.
        setting: ``student.NAME`` or ``train.NAME``.
        values: What it is set to in turn.
        teacher_path: The teacher.
        data: What is learnt, and what it is measured on.
        folder: For the trainings; what is finished is not trained again by another call.

    Raises:
        RecipeError: no such setting, or a value that it does not take.
    """
    table, _, name = setting.partition(".")
    if table not in ("student", "train") or not name:
        raise RecipeError(f"expected a setting such as student.start or train.doubt, found {setting!r}")
    outcomes = []
    for number, value in enumerate(values):
        varied = replace(recipe, tables={**recipe.tables, table: {**recipe.table(table), name: value}})
        outcomes.append(_train(varied, value, teacher_path=teacher_path, data=data, folder=folder / f"{number}"))
    return outcomes


def _train(recipe: Recipe, value: Any, *, teacher_path: Path, data: Data, folder: Path) -> Outcome:
    plan, settings = recipe.settings("train", TrainingPlan), recipe.settings("student", StudentSettings)
    plan = replace(plan, top_k=None, int8_steps=0, patience=None)
    teacher = TeacherModel.load(teacher_path)
    end_id = int(teacher.model.config.eos_token_id)
    card = teacher.card
    rows = tokenize(data.train, card.template, teacher.tokenizer, end_id=end_id, max_target_tokens=card.max_new_tokens).rows
    model = student_of(teacher.model, settings, rows, seed=plan.seed)
    held_out = list(data.validation)

    def measure(measured: PreTrainedModel) -> dict[str, float]:
        return {"exact_match": float(_ask(TeacherModel(measured, teacher.tokenizer, card), held_out).right.mean())}

    matches = bool(plan.hidden or plan.attention)
    before = measure(model)["exact_match"]
    with quiet_transformers():
        trained = train(
            model,
            rows,
            plan,
            state_dir=folder,
            teacher=teacher.model if plan.divergence or matches else None,
            layers=layer_map(teacher.model, settings) if matches else None,
            validation=measure,
        )
    shutil.rmtree(folder, ignore_errors=True)
    ended = TeacherModel(model.eval(), teacher.tokenizer, card)
    asked = _ask(ended, held_out)
    with rounded(model):
        as_int8 = _ask(ended, held_out)
    weights = resamplings(len(held_out), seed=0)
    losses = 1.0 - asked.right
    return Outcome(
        value=value,
        curve=(Point(0, before, None), *_curve(trained.history)),
        exact_match=_mean(asked.right, weights),
        int8_exact_match=_mean(as_int8.right, weights),
        auroc=_separation(asked, weights),
        deferral_area=interval(lambda some: deferral_area(asked.confidences, losses, some), weights),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    right: Array
    confidences: Array


def _ask(model: TeacherModel, examples: Sequence[Example]) -> _Asked:
    answers = model.answer([example.fields for example in examples], batch_size=64)
    right = [float(answer.text == example.target) for answer, example in zip(answers, examples, strict=True)]
    return _Asked(np.array(right), np.array([np.mean(answer.token_logprobs) for answer in answers]))


def _mean(values: Array, weights: Array) -> Interval:
    def mean(some: Array | None) -> Array:
        found: Array = np.array(values.mean()) if some is None else some @ values / values.size
        return found

    return interval(mean, weights)


def _separation(asked: _Asked, weights: Array) -> Interval:
    """AUROC; where all answers are alike nothing can be told apart, which is as good as chance."""
    losses = 1.0 - asked.right
    value = float(np.nan_to_num(separation(asked.confidences, losses), nan=0.5))
    known = separation(asked.confidences, losses, weights)
    low, high = np.percentile(np.append(known[~np.isnan(known)], value), (2.5, 97.5))
    return Interval(value, min(float(low), value), max(float(high), value))


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

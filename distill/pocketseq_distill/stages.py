"""The stages of a run that belong to this room; what does the work is imported when a stage runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pocketseq.examples import read_examples, write_examples
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe, Stage

if TYPE_CHECKING:
    from pocketseq_distill.distil import Data

_NEEDS = ("torch", "transformers", "accelerate")


def _label(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.checkpoints import checkpoint_fingerprint
    from pocketseq_distill.generation import TeacherModel
    from pocketseq_distill.labels import LabelSettings, label_rows

    label_rows(
        list(read_examples(run / "data/train.jsonl")),
        TeacherModel.load(run / "teacher"),
        run / "labels/train.jsonl",
        recipe.settings("label", LabelSettings),
        teacher_id=checkpoint_fingerprint(run / "teacher"),
    )


def _filter(recipe: Recipe, run: Path) -> None:
    from pocketseq.checkpoint import CheckpointCard
    from pocketseq_distill.filters import FilterSettings, filter_rows
    from pocketseq_distill.generation import read_tokenizer
    from pocketseq_distill.labels import read_labels

    examples = list(read_examples(run / "data/train.jsonl"))
    filtered = filter_rows(
        examples,
        read_labels(run / "labels/train.jsonl", examples),
        CheckpointCard.read(run / "teacher").template,
        read_tokenizer(run / "teacher"),
        recipe.settings("filter", FilterSettings),
    )
    write_json(run / "filtered/counts.json", filtered.to_json())
    write_examples(run / "filtered/train.jsonl", filtered.rows)


def _train(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.distil import distil
    from pocketseq_distill.plan import TrainingPlan
    from pocketseq_distill.students import StudentSettings

    distil(
        run / "teacher",
        _data(run),
        run / "student",
        student=recipe.settings("student", StudentSettings),
        plan=recipe.settings("train", TrainingPlan),
        recipe_name=recipe.name,
    )


def _data(run: Path) -> Data:
    from pocketseq_distill.distil import Data

    corpus = json.loads((run / "data/corpus.json").read_text(encoding="utf-8"))
    return Data(
        train=list(read_examples(run / "filtered/train.jsonl")),
        validation=list(read_examples(run / "data/validation.jsonl")),
        fingerprint=str(corpus["fingerprint"]),
    )


def _evaluate(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.evaluation import EvaluationSettings, evaluate_checkpoint

    examples = list(read_examples(run / "data/test.jsonl"))
    settings = recipe.settings("evaluate", EvaluationSettings)
    for name in ("teacher", "student"):
        write_json(run / f"evaluation/{name}.json", evaluate_checkpoint(run / name, examples, settings, name=name).to_json())


LABEL = Stage(
    name="label", after=("corpus", "teacher"), run=_label, sections=("label",), outputs=("labels",), needs=_NEEDS, extra="distill"
)
FILTER = Stage(
    name="filter",
    after=("corpus", "teacher", "label"),
    run=_filter,
    sections=("filter",),
    outputs=("filtered",),
    needs=_NEEDS,
    extra="distill",
)
TRAIN = Stage(
    name="train",
    after=("corpus", "teacher", "filter"),
    run=_train,
    sections=("student", "train"),
    outputs=("student", "student.training"),
    needs=_NEEDS,
    extra="distill",
)
EVALUATE = Stage(
    name="evaluate",
    after=("corpus", "teacher", "train"),
    run=_evaluate,
    sections=("evaluate",),
    outputs=("evaluation",),
    needs=_NEEDS,
    extra="distill",
)

"""The stages of a run that belong to this room; what does the work is imported when a stage runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import RecipeError
from pocketseq.examples import read_examples, write_examples
from pocketseq.files import sha256, write_json
from pocketseq.pipeline import Recipe, Stage
from pocketseq_distill.corpus.stage import build_corpus, corpus_inputs, corpus_settings, pairs_settings
from pocketseq_distill.imagining.stage import asks_for_it, filter_imagined
from pocketseq_distill.labelling.stage import LABELS, label, label_inputs, left, missed

if TYPE_CHECKING:
    from pocketseq_distill.training.plan import TrainingPlan

_TEST_LABELS = "labels/test.jsonl"
_NEEDS = ("torch", "transformers", "accelerate")
_STUDENT: Final = "pocketseq_distill.students.settings:StudentSettings"


def _teacher_inputs(recipe: Recipe, run: Path) -> Any:
    """A teacher on disk may be replaced under its name."""
    from pocketseq_distill.checkpoints import checkpoint_fingerprint, find_teacher
    from pocketseq_distill.teacher import TeacherSettings

    del run
    settings = recipe.settings("teacher", TeacherSettings)
    if settings.ensemble is not None:
        return [checkpoint_fingerprint(find_teacher(member)) for member in settings.ensemble.members]
    name = settings.checkpoint or settings.start
    return checkpoint_fingerprint(find_teacher(name)) if name else None


def _teacher_plan(recipe: Recipe) -> TrainingPlan | None:
    """How the teacher is trained; None where it is taken as it is."""
    from pocketseq_distill.teacher import TeacherSettings
    from pocketseq_distill.training.plan import TrainingPlan

    settings = recipe.settings("teacher", TeacherSettings)
    if settings.checkpoint or settings.ensemble:
        return None
    plan = recipe.settings("teacher_train", TrainingPlan)
    plan.require_no_teacher(f"recipe {recipe.name!r}: [teacher_train] is of a model that has no teacher itself")
    if plan.int8_steps:
        raise RecipeError(
            f"recipe {recipe.name!r}: [teacher_train]: expected int8_steps = 0, which only what is exported needs, found "
            f"{plan.int8_steps}"
        )
    return plan


def _teacher(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.checkpoints import find_teacher
    from pocketseq_distill.distil import Data
    from pocketseq_distill.students.trimming import trim_checkpoint
    from pocketseq_distill.teacher import TeacherSettings
    from pocketseq_distill.teaching import card_of_corpus, copy_teacher, train_teachers

    settings, plan = recipe.settings("teacher", TeacherSettings), _teacher_plan(recipe)
    if settings.ensemble:
        from pocketseq_distill.ensemble import write_ensemble

        members = [find_teacher(member) for member in settings.ensemble.members]
        write_ensemble(members, run / "teacher", average=settings.ensemble.average)
        return
    if settings.checkpoint and settings.trim:
        trimmed = trim_checkpoint(find_teacher(settings.checkpoint), run / "teacher", read_examples(run / "data/train.jsonl"))
        print(
            f"trimmed the teacher's vocabulary from {trimmed.tokens_before:,} to {trimmed.tokens:,} tokens, "
            f"its weights from {trimmed.parameters_before / 1e6:.1f}M to {trimmed.parameters / 1e6:.1f}M",
            file=sys.stderr,
        )
        return
    if settings.checkpoint:
        copy_teacher(find_teacher(settings.checkpoint), run / "teacher")
        return
    assert plan is not None
    card = card_of_corpus(run, recipe.task)
    train_teachers(Data.of_run(run, "data"), run / "teacher", card=card, settings=settings, plan=plan, recipe_name=recipe.name)


def _train_plan(recipe: Recipe) -> TrainingPlan:
    """How the student is trained: not by losses for which a teacher through text, or one of other tokens, has nothing to say."""
    from pocketseq_distill.students.settings import StudentSettings
    from pocketseq_distill.teacher import TeacherSettings
    from pocketseq_distill.training.plan import TrainingPlan

    plan = recipe.settings("train", TrainingPlan)
    if recipe.settings("teacher", TeacherSettings).through_text:
        plan.require_no_teacher(f"recipe {recipe.name!r}: [train] has the answers alone of a teacher through text")
    plan.require_readable(own_vocabulary=recipe.settings("student", StudentSettings).vocab_size is not None)
    return plan


def _plain_plan(recipe: Recipe) -> TrainingPlan:
    from pocketseq_distill.training.plan import TrainingPlan

    plan = recipe.settings("plain_train", TrainingPlan)
    plan.require_no_teacher(f"recipe {recipe.name!r}: [plain_train] is of a student that has no teacher")
    return plan


def _filter(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.labelling.filters import FilterSettings, filter_rows
    from pocketseq_distill.labelling.labels import read_labels
    from pocketseq_distill.tokenizer import read_tokenizer

    examples = list(read_examples(run / "data/train.jsonl"))
    template = CheckpointCard.read(run / "teacher").template
    tokenizer = read_tokenizer(run / "teacher", template)
    settings = recipe.settings("filter", FilterSettings)
    filtered = filter_rows(examples, read_labels(run / LABELS, examples), template, tokenizer, settings)
    rows, counts = filtered.rows, filtered.to_json()
    print(f"filter: {filtered}", file=sys.stderr)
    if asks_for_it(recipe):
        more = filter_imagined(run, template, tokenizer, settings)
        rows, counts = [*rows, *more.rows], {**counts, "imagined": more.to_json()}
        print(f"filter of imagined inputs: {more}", file=sys.stderr)
    write_json(run / "filtered/counts.json", counts)
    write_examples(run / "filtered/train.jsonl", rows)


def _train(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.distil import Data, distil
    from pocketseq_distill.students.settings import StudentSettings

    distil(
        run / "teacher",
        Data.of_run(run, "filtered"),
        run / "student",
        student=recipe.settings("student", StudentSettings),
        plan=_train_plan(recipe),
        recipe_name=recipe.name,
    )


def _plain(recipe: Recipe, run: Path) -> None:
    """The student's shape, trained on the references without a word of the teacher: what distilling is held to."""
    from pocketseq_distill.distil import Data, distil
    from pocketseq_distill.students.plain import PlainSettings
    from pocketseq_distill.students.settings import StudentSettings

    plan = _plain_plan(recipe)
    student = recipe.settings("plain", PlainSettings).of(recipe.settings("student", StudentSettings))
    distil(run / "teacher", Data.of_run(run, "data"), run / "plain", student=student, plan=plan, recipe_name=recipe.name)


def _evaluate(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.asked import evaluate_through_text
    from pocketseq_distill.evaluation import EvaluationSettings, evaluate_checkpoint
    from pocketseq_distill.labelling.labels import LabelSettings
    from pocketseq_distill.teacher import TeacherSettings

    examples = list(read_examples(run / "data/test.jsonl"))
    settings = recipe.settings("evaluate", EvaluationSettings)
    names = ["student", *(["plain"] if recipe.table("plain_train") else [])]
    teacher = recipe.settings("teacher", TeacherSettings)
    if teacher.through_text:  # it labelled; what stands in its place in the run is only what students are cut from
        template, labels = CheckpointCard.read(run / "teacher").template, run / _TEST_LABELS
        asking = recipe.settings("label", LabelSettings).asking
        asked = evaluate_through_text(teacher, examples, settings, template=template, labels=labels, asking=asking)
        write_json(run / "evaluation/teacher.json", asked.to_json())
    else:
        names.insert(0, "teacher")
    for name in names:
        write_json(run / f"evaluation/{name}.json", evaluate_checkpoint(run / name, examples, settings, name=name).to_json())


def _evaluate_inputs(recipe: Recipe, run: Path) -> Any:
    """Labels of held-out rows are written by hand, when somebody pays for them."""
    labels = run / _TEST_LABELS
    return sha256(labels) if "endpoint" in recipe.table("teacher") and labels.is_file() else None


CORPUS = Stage(
    name="corpus",
    after=(),
    run=build_corpus,
    sections={"corpus": corpus_settings, "pairs": pairs_settings},
    inputs=corpus_inputs,
    outputs=("data",),
    needs=_NEEDS,
    extra="distill",
)
TEACHER = Stage(
    name="teacher",
    after=("corpus",),
    run=_teacher,
    sections={"teacher": "pocketseq_distill.teacher:TeacherSettings", "teacher_train": _teacher_plan},
    inputs=_teacher_inputs,
    # Not the state of its training: that tells by itself whether a longer plan can go on from it.
    outputs=("teacher",),
    needs=_NEEDS,
    extra="distill",
)
LABEL = Stage(
    name="label",
    after=("corpus", "teacher", "imagine"),
    run=label,
    sections={"label": "pocketseq_distill.labelling.labels:LabelSettings"},
    inputs=label_inputs,
    left=left,
    outputs=("labels",),
    kept=("labels",),  # each file of labels tells whose they are, and some were paid for
    needs=_NEEDS,
    extra="distill",
)
FILTER = Stage(
    name="filter",
    after=("corpus", "teacher", "imagine", "label"),
    run=_filter,
    sections={"filter": "pocketseq_distill.labelling.filters:FilterSettings"},
    inputs=missed,
    outputs=("filtered",),
    needs=_NEEDS,
    extra="distill",
)
TRAIN = Stage(
    name="train",
    after=("corpus", "teacher", "filter"),
    run=_train,
    sections={"student": _STUDENT, "train": _train_plan},
    outputs=("student",),
    needs=_NEEDS,
    extra="distill",
)
PLAIN = Stage(
    name="plain",
    after=("corpus", "teacher"),
    run=_plain,
    sections={"student": _STUDENT, "plain": "pocketseq_distill.students.plain:PlainSettings", "plain_train": _plain_plan},
    outputs=("plain",),
    applies=lambda recipe: bool(recipe.table("plain_train")),
    needs=_NEEDS,
    extra="distill",
)
EVALUATE = Stage(
    name="evaluate",
    after=("corpus", "teacher", "train", "plain"),
    run=_evaluate,
    sections={"evaluate": "pocketseq_distill.evaluation:EvaluationSettings"},
    inputs=_evaluate_inputs,
    outputs=("evaluation",),
    needs=_NEEDS,
    extra="distill",
)

"""The stages of a run that belong to this room; what does the work is imported when a stage runs."""

from __future__ import annotations

import sys
from pathlib import Path
from platform import python_version
from typing import Any

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import RecipeError
from pocketseq.examples import read_examples, write_examples
from pocketseq.files import sha256, write_json
from pocketseq.pipeline import Recipe, Stage
from pocketseq_distill.imagining.stage import asks_for_it, filter_imagined
from pocketseq_distill.labelling.stage import LABELS, label, label_inputs, left, missed

_TEST_LABELS = "labels/test.jsonl"
_NEEDS = ("torch", "transformers", "accelerate")


def _corpus(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.corpus import LibrarySettings, PairsSettings, build_library_corpus, build_pairs_corpus
    from pocketseq_distill.published import PUBLISHED, PublishedSettings, build_published_corpus

    if recipe.task in PUBLISHED:
        settings = recipe.settings("corpus", PublishedSettings)
        build_published_corpus(run / "data", settings, task=recipe.task, data=recipe.data)
    elif recipe.table("pairs"):
        build_pairs_corpus(run / "data", recipe.settings("pairs", PairsSettings), task=recipe.task)
    else:
        build_library_corpus(run / "data", recipe.settings("corpus", LibrarySettings), task=recipe.task)


def _corpus_inputs(recipe: Recipe, run: Path) -> Any:
    """Files of pairs may change under their name; the library belongs to the interpreter."""
    del run
    names = [name for split in ("train", "validation", "calibration", "test") for name in recipe.table("pairs").get(split, ())]
    return [python_version(), {name: sha256(Path(name)) for name in names if Path(name).is_file()}]


def _teacher_inputs(recipe: Recipe, run: Path) -> Any:
    """A teacher on disk may be replaced under its name."""
    del run
    table = recipe.table("teacher")
    members = table.get("ensemble", {}).get("members", ())
    name = table.get("checkpoint") or table.get("start")
    if not name and not members:
        return None
    from pocketseq_distill.checkpoints import checkpoint_fingerprint, find_teacher

    found = [checkpoint_fingerprint(find_teacher(each)) for each in (members or [str(name)])]
    return found if members else found[0]


def _teacher(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.checkpoints import find_teacher
    from pocketseq_distill.distil import Data
    from pocketseq_distill.students.trimming import trim_checkpoint
    from pocketseq_distill.teaching import TeacherSettings, card_of_corpus, copy_teacher, train_teachers
    from pocketseq_distill.training.plan import TrainingPlan

    settings = recipe.settings("teacher", TeacherSettings)
    _check_taught(recipe)  # before answers are paid for
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
    plan = recipe.settings("teacher_train", TrainingPlan)
    plan.require_no_teacher(f"recipe {recipe.name!r}: [teacher_train] is of a model that has no teacher itself")
    if plan.int8_steps:
        raise RecipeError(
            f"recipe {recipe.name!r}: [teacher_train]: expected int8_steps = 0, which only what is exported needs, found "
            f"{plan.int8_steps}"
        )
    card = card_of_corpus(run, recipe.task)
    train_teachers(Data.of_run(run, "data"), run / "teacher", card=card, settings=settings, plan=plan, recipe_name=recipe.name)


def _check_taught(recipe: Recipe) -> None:
    """Refuse losses for which a teacher through text has nothing to say."""
    from pocketseq_distill.teaching import TeacherSettings
    from pocketseq_distill.training.plan import TrainingPlan

    if recipe.settings("teacher", TeacherSettings).through_text and recipe.table("train"):
        plan = recipe.settings("train", TrainingPlan)
        plan.require_no_teacher(f"recipe {recipe.name!r}: [train] has the answers alone of a teacher through text")


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
    from pocketseq_distill.students.student import StudentSettings
    from pocketseq_distill.training.plan import TrainingPlan

    _check_taught(recipe)
    distil(
        run / "teacher",
        Data.of_run(run, "filtered"),
        run / "student",
        student=recipe.settings("student", StudentSettings),
        plan=recipe.settings("train", TrainingPlan),
        recipe_name=recipe.name,
    )


def _plain(recipe: Recipe, run: Path) -> None:
    """The student's shape, trained on the references without a word of the teacher: what distilling is held to."""
    from pocketseq_distill.distil import Data, distil
    from pocketseq_distill.students.plain import PlainSettings
    from pocketseq_distill.students.student import StudentSettings
    from pocketseq_distill.training.plan import TrainingPlan

    plan = recipe.settings("plain_train", TrainingPlan)
    plan.require_no_teacher(f"recipe {recipe.name!r}: [plain_train] is of a student that has no teacher")
    student = recipe.settings("plain", PlainSettings).of(recipe.settings("student", StudentSettings))
    distil(run / "teacher", Data.of_run(run, "data"), run / "plain", student=student, plan=plan, recipe_name=recipe.name)


def _evaluate(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.asked import evaluate_through_text
    from pocketseq_distill.evaluation import EvaluationSettings, evaluate_checkpoint
    from pocketseq_distill.labelling.labels import LabelSettings
    from pocketseq_distill.teaching import TeacherSettings

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
    run=_corpus,
    sections=("corpus", "pairs"),
    inputs=_corpus_inputs,
    outputs=("data",),
    needs=_NEEDS,
    extra="distill",
)
TEACHER = Stage(
    name="teacher",
    after=("corpus",),
    run=_teacher,
    sections=("teacher", "teacher_train"),
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
    sections=("label",),
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
    sections=("filter",),
    inputs=missed,
    outputs=("filtered",),
    needs=_NEEDS,
    extra="distill",
)
TRAIN = Stage(
    name="train",
    after=("corpus", "teacher", "filter"),
    run=_train,
    sections=("student", "train"),
    outputs=("student",),
    needs=_NEEDS,
    extra="distill",
)
PLAIN = Stage(
    name="plain",
    after=("corpus", "teacher"),
    run=_plain,
    sections=("student", "plain", "plain_train"),
    outputs=("plain",),
    applies=lambda recipe: bool(recipe.table("plain_train")),
    needs=_NEEDS,
    extra="distill",
)
EVALUATE = Stage(
    name="evaluate",
    after=("corpus", "teacher", "train", "plain"),
    run=_evaluate,
    sections=("evaluate",),
    inputs=_evaluate_inputs,
    outputs=("evaluation",),
    needs=_NEEDS,
    extra="distill",
)

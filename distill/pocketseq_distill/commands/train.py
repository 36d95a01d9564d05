"""``pocketseq train``: a student out of a teacher and rows."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pocketseq.commands import Command, whole
from pocketseq.examples import Example
from pocketseq_distill.commands.data import add_data_arguments, read_data, read_file

if TYPE_CHECKING:
    from pocketseq.pipeline import Recipe
    from pocketseq.template import Template


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq train``."""
    parser.add_argument("teacher", metavar="TEACHER", help="a directory, the name of a shipped teacher, or a hub id")
    add_data_arguments(parser)
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="the student; a killed training goes on")
    parser.add_argument("--recipe", metavar="RECIPE", help="a recipe whose tables [filter], [student] and [train] hold")
    parser.add_argument("--labels", metavar="FILE", type=Path, help="answers from 'pocketseq label' (default: references)")
    parser.add_argument("--validation", metavar="FILE", help="held-out rows, in a file such as DATA (without --targets)")
    parser.add_argument(
        "--steps", metavar="N", type=whole, help="updates of the weights, instead of the recipe's; needed without one"
    )
    parser.add_argument("--max-minutes", metavar="N", type=float, help="wall-clock budget, instead of the recipe's")
    parser.add_argument(
        "--encoder-layers", metavar="N", type=whole, help="layers of the student's encoder, instead of the recipe's"
    )
    parser.add_argument(
        "--decoder-layers", metavar="N", type=whole, help="layers of the student's decoder, instead of the recipe's"
    )
    parser.add_argument(
        "--report-to",
        metavar="TRACKER",
        action="append",
        help="tensorboard, wandb or mlflow, told of loss and validation; may be repeated",
    )
    parser.add_argument("--keep-state", action="store_true", help="keep what a longer training would go on from")


def run(args: Namespace) -> int:
    """Train the student."""
    from pocketseq.checkpoint import CheckpointCard
    from pocketseq.errors import RecipeError
    from pocketseq.files import digest
    from pocketseq_distill.checkpoints import find_teacher

    recipe = _recipe(args)
    teacher = find_teacher(args.teacher)
    template = CheckpointCard.read(teacher).template
    if args.recipe is None and args.steps is None:
        raise RecipeError("expected --recipe RECIPE, whose table [train] says how to train, or --steps N, found neither")
    rows = read_data(args, template)
    validation = read_file(args.validation, args, template) if args.validation else []
    # What takes seconds to import only now, when the words are known to be right.
    from pocketseq_distill.distil import Data, distil
    from pocketseq_distill.students.settings import StudentSettings
    from pocketseq_distill.training.plan import TrainingPlan
    from pocketseq_distill.training.processes import is_first

    plan = recipe.settings("train", TrainingPlan)
    if plan.validate_every and not validation and is_first():
        print("no --validation: the student ends as its last update leaves it, and stops no sooner", file=sys.stderr)
    data = Data(
        train=_labelled(rows, args.labels, recipe, teacher) if args.labels else rows,
        validation=validation,
        fingerprint=digest([row.id for row in rows]),
    )
    card = distil(
        teacher,
        data,
        args.output,
        student=recipe.settings("student", StudentSettings),
        plan=plan,
        recipe_name=recipe.name,
        keep_state=args.keep_state,
    )
    if is_first():
        print(f"{args.output}: {card.training['steps']} updates in {card.training['minutes']:.1f} minutes")
    return 0


def _recipe(args: Namespace) -> Recipe:
    from pocketseq.pipeline import Recipe

    recipe = Recipe.read(args.recipe) if args.recipe else Recipe(name="", task="", description="", tables={}, text="")
    given = {
        "train": {"steps": args.steps, "max_minutes": args.max_minutes, "report_to": args.report_to},
        "student": {"encoder_layers": args.encoder_layers, "decoder_layers": args.decoder_layers},
    }
    tables = dict(recipe.tables)
    for name, values in given.items():
        tables[name] = {**recipe.table(name), **{key: value for key, value in values.items() if value is not None}}
    return replace(recipe, tables=tables)


def _labelled(rows: list[Example], labels: Path, recipe: Recipe, teacher: Path) -> list[Example]:
    from pocketseq.checkpoint import CheckpointCard
    from pocketseq_distill.checkpoints import checkpoint_fingerprint
    from pocketseq_distill.labelling.filters import FilterSettings, filter_rows
    from pocketseq_distill.labelling.labels import read_labels
    from pocketseq_distill.labelling.store import LabelFile
    from pocketseq_distill.tokenizer import read_tokenizer
    from pocketseq_distill.training.plan import TrainingPlan

    template: Template = CheckpointCard.read(teacher).template
    tokenizer = read_tokenizer(teacher, template)
    # Labels and distributions of two teachers would pull into two directions.
    learns_both = bool(recipe.settings("train", TrainingPlan).divergence)
    teacher_id = checkpoint_fingerprint(teacher)
    found = read_labels(labels, rows, teacher_id=teacher_id if learns_both else None)
    if (other := LabelFile(labels).teacher_id) != teacher_id:
        print(f"{labels}: answers of {other}, not of {teacher} ({teacher_id}), which the student is cut from", file=sys.stderr)
    filtered = filter_rows(rows, found, template, tokenizer, recipe.settings("filter", FilterSettings))
    print(filtered)
    for reason, samples in filtered.samples.items():
        sample = samples[0]
        print(f"  {reason}, such as row {sample['id']}: {sample['label']!r:.80} for {sample['target']!r:.80}", file=sys.stderr)
    return filtered.rows


COMMAND = Command(name="train", summary="train a student on a teacher's answers", configure=configure, run=run)

"""``pocketseq label``: a teacher's answers to rows."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pocketseq.commands import Command, whole
from pocketseq_distill.commands.data import add_data_arguments, read_data

if TYPE_CHECKING:
    from pocketseq.examples import Example
    from pocketseq.pipeline import Recipe
    from pocketseq_distill.labelling.labels import LabelSettings
    from pocketseq_distill.labelling.opening import Opened
    from pocketseq_distill.teacher import TeacherSettings

_TEACHERS = """\
TEACHER is one of
  a directory, the name of a shipped teacher, or a hub id    an encoder-decoder, or an ensemble of such
  package.module:function                                    a Python function, which is imported and run
  RECIPE.toml                                                whatever its table [teacher] names, asked as [label] says:

    [recipe]                                  # every recipe begins so
    name = "mine"
    task = "what is asked"
    format = 1

    [teacher.endpoint]                        # an OpenAI-compatible API; text leaves this machine
    url = "https://host/v1"
    model = "name"
    api_key_env = "KEY"
    prompt = "Translate into German: {source}"
    price = { per_million_prompt_tokens = 0.15, per_million_completion_tokens = 0.6 }
    budget = { cost = 5.0 }                   # or requests, or tokens; raised, the same call goes on

    [teacher.causal]                          # a causal language model on disk
    checkpoint = "path"
    prompt = "English: {source}\\nGerman:"
    stop = ["\\n"]

    [teacher.ensemble]                        # several encoder-decoders of one vocabulary
    members = ["one", "another"]

    [label]                                   # how it is asked; here for the best of eight beams by the reference
    beams = 8
    candidates = 8
    choose = "nearest"                        # by chrF; "nearest_bleu", or without references "likeliest", "reverse"

examples:
  pocketseq label python-fix rows.jsonl -o labels.jsonl --beams 4 --processes 2
  pocketseq label teacher.toml rows.jsonl -o labels.jsonl --dry-run      # what it would cost
  pocketseq label my.module:answer rows.jsonl -o labels.jsonl --try 4    # look at a few answers first
"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq label``."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = _TEACHERS
    parser.add_argument("teacher", metavar="TEACHER", help="who answers; see below")
    add_data_arguments(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="labels (.jsonl); an unfinished file goes on"
    )
    parser.add_argument("--rows", metavar="N", type=whole, help="label the first N rows only")
    parser.add_argument("--beams", metavar="N", type=whole, help="beams of the search (default: 1, greedy)")
    parser.add_argument("--batch-size", metavar="N", type=whole, help="rows answered together (default: 64)")
    parser.add_argument("--processes", metavar="N", type=whole, help="processes on this machine that share the rows (default: 1)")
    parser.add_argument("--ray", metavar="N", type=int, dest="ray_workers", help="workers of a Ray cluster that share the rows")
    parser.add_argument("--dry-run", action="store_true", help="tell what is to be asked and what it would cost; ask nothing")
    parser.add_argument("--try", metavar="N", type=whole, dest="tried", help="show the answers to the first N rows; write nothing")


def run(args: Namespace) -> int:
    """Label what is not labelled yet."""
    from pocketseq_distill.labelling.endpoint import EndpointTeacher
    from pocketseq_distill.labelling.labels import LabelSettings, label_rows, unlabelled
    from pocketseq_distill.labelling.spending import announce

    recipe = _recipe(args)
    given = {name: getattr(args, name) for name in ("rows", "beams", "batch_size", "processes", "ray_workers")}
    settings = replace(
        recipe.settings("label", LabelSettings), **{name: value for name, value in given.items() if value is not None}
    )
    opened, rows = _open(recipe, args)
    missing = rows[: args.tried] if args.tried is not None else unlabelled(rows, args.output, opened.teacher, settings)
    if isinstance(opened.teacher, EndpointTeacher):
        announce(opened.teacher.estimate(missing, settings.asking), opened.teacher.settings.budget)
    if args.dry_run:
        print(f"{args.output}: {len(missing)} rows to label; nothing was asked")
        return 0
    if args.tried is not None:
        return _try(opened, missing, settings)
    report = label_rows(rows, opened.teacher, args.output, settings, source_field=opened.template.primary)
    print(f"{args.output}: {report}")
    for name, samples in report.samples.items():
        why = samples[0]["why"][:200]
        print(f"  {name}, such as row {samples[0]['id']}{f': {why!r}' if why.strip() else ''}", file=sys.stderr)
    return 0


def _recipe(args: Namespace) -> Recipe:
    """The recipe that was given, or one that names the teacher that was given."""
    from pocketseq.pipeline import Recipe
    from pocketseq_distill.checkpoints import find_teacher

    if args.teacher.endswith(".toml"):
        return Recipe.read(args.teacher)
    kind = "function" if ":" in args.teacher and not Path(args.teacher).exists() else "checkpoint"
    if kind == "checkpoint":
        find_teacher(args.teacher)  # a wrong name is told at once, before anything that takes seconds to import
    return Recipe(name="", task="", description="", tables={"teacher": {kind: args.teacher}}, text="")


def _open(recipe: Recipe, args: Namespace) -> tuple[Opened, list[Example]]:
    """The teacher and the rows: an encoder-decoder tells how rows are read, for others the rows tell it themselves."""
    from pocketseq.template import Field, Template
    from pocketseq_distill.checkpoints import find_teacher
    from pocketseq_distill.labelling.opening import open_teacher
    from pocketseq_distill.teacher import TeacherSettings

    settings = recipe.settings("teacher", TeacherSettings)
    spent = args.output.with_suffix(".spent.json")
    if settings.ensemble is not None:
        settings = _joined(settings, args.output)
    if not settings.through_text:
        opened = open_teacher(settings, None, spent=spent)
        return opened, read_data(args, opened.template)
    if settings.checkpoint is not None:
        from pocketseq.checkpoint import CheckpointCard

        template = CheckpointCard.read(find_teacher(settings.checkpoint)).template
        rows = read_data(args, template)
    else:
        rows = read_data(args, Template(fields=(Field("source", max_tokens=1),), primary="source"))
        names = list(rows[0].fields) if rows else ["source"]
        template = Template(fields=tuple(Field(name, max_tokens=1) for name in names), primary=names[0])
    return open_teacher(settings, template, spent=spent), rows


def _joined(settings: TeacherSettings, output: Path) -> TeacherSettings:
    """An ensemble written as a checkpoint beside the labels, where workers find it too."""
    from pocketseq_distill.checkpoints import find_teacher
    from pocketseq_distill.ensemble import write_ensemble

    assert settings.ensemble is not None
    folder = output.with_suffix(".ensemble")
    write_ensemble([find_teacher(member) for member in settings.ensemble.members], folder, average=settings.ensemble.average)
    return replace(settings, ensemble=None, checkpoint=str(folder))


def _try(opened: Opened, rows: list[Example], settings: LabelSettings) -> int:
    """Show a few answers as a person wants to see them before the rest is asked."""
    from pocketseq_distill.labelling.labeller import Labeller, Missed

    with closing(opened.teacher):
        outcomes = Labeller(opened.teacher, replace(settings, reverse=None, choose="nearest"))(rows)
    for row, outcome in zip(rows, outcomes, strict=True):
        print(f"{row.id}\n  input      {row.fields[opened.template.primary]!r}\n  reference  {row.target!r}")
        if isinstance(outcome, Missed):
            print(f"  {outcome.failure}: {outcome.why}")
        else:
            print(f"  {outcome.finish_reason:<9}  {outcome.text!r}")
    return 0


COMMAND = Command(name="label", summary="write down a teacher's answers, to train a student on", configure=configure, run=run)

"""``pocketseq ablate``: one setting at several values, measured side by side."""

from __future__ import annotations

import json
import tomllib
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketseq.commands import Command, require_one_process, whole
from pocketseq_distill.commands.data import add_data_arguments, read_data

if TYPE_CHECKING:
    from pocketseq_distill.ablation import Measures, Outcome

_COLUMNS = """\
It trains a student for each value and seed, all else the same, and prints for each value, in percent, means over the seeds:
  exact match    held-out rows that it answers as the reference does
  as int8        the same with weights rounded as the int8 export rounds them
  AUROC          how well the log-probabilities of its answers tell right ones from wrong ones; 50 is chance
  with cloud     exact match where the least likely three answers in ten go to a cloud that is always right
In brackets: where 95% of the bootstrap resamplings of rows lie. The first value is what the others are compared with, row by row
("over the first"). Below it each training's exact match in its course. A killed call, made again, goes on where it stopped.

examples:
  pocketseq ablate python-fix run/filtered/train.jsonl --validation run/data/validation.jsonl --recipe python-fix \\
      --vary train.divergence=0.0,1.0 --steps 2000 -o divergence.json
  pocketseq ablate python-fix run/filtered/train.jsonl --validation run/data/validation.jsonl --recipe mine.toml \\
      --vary student.decoder_layers=1,2 --steps 2000 --seeds 3 -o layers.json
"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq ablate``."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = _COLUMNS
    parser.add_argument("teacher", metavar="TEACHER", help="a directory, the name of a shipped teacher, or a hub id")
    add_data_arguments(parser)
    parser.add_argument("--validation", metavar="FILE", type=Path, required=True, help="held-out example rows (.jsonl)")
    parser.add_argument("--recipe", metavar="RECIPE", required=True, help="a recipe whose tables [student] and [train] hold")
    parser.add_argument(
        "--vary",
        metavar="NAME=V1,V2",
        required=True,
        help='such as student.start="copied","pooled","random" or train.doubt=0.0,0.5',
    )
    parser.add_argument("--steps", metavar="N", type=whole, required=True, help="updates of each training")
    parser.add_argument(
        "--validate-every", metavar="N", type=whole, help="updates between validations (default: a fifth of the steps)"
    )
    parser.add_argument("--rows", metavar="N", type=whole, help="held-out rows to measure on (default: all)")
    parser.add_argument("--seeds", metavar="N", type=whole, default=1, help="trainings of each value (default: 1)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the result, as JSON")
    parser.add_argument("--note", metavar="TEXT", default="", help="what to say of the machine in the result")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> int:
    """Train with each value, write and print."""
    from pocketseq.checkpoint import CheckpointCard
    from pocketseq.examples import read_examples
    from pocketseq.files import digest, write_json
    from pocketseq.pipeline import Recipe
    from pocketseq_distill.ablation import to_json, vary
    from pocketseq_distill.checkpoints import checkpoint_fingerprint, find_teacher
    from pocketseq_distill.distil import Data, hardware
    from pocketseq_distill.training.plan import TrainingPlan
    from pocketseq_distill.training.validation import held_out

    require_one_process("ablate")
    setting, values = read_setting(args.vary)
    recipe = Recipe.read(args.recipe)
    train = {**recipe.table("train"), "steps": args.steps, "validate_every": args.validate_every or max(args.steps // 5, 1)}
    train.pop("max_minutes", None)  # time would end each training elsewhere
    train.pop("patience", None)  # and so would that; see ``vary``
    train.pop("report_to", None)  # there are many, and the result tells of each
    teacher = find_teacher(args.teacher)
    rows = read_data(args, CheckpointCard.read(teacher).template)
    validation = held_out(list(read_examples(args.validation)), rows)[: args.rows]
    data = Data(rows, validation, digest([row.id for row in rows]))
    folder = args.output.with_name(f"{args.output.stem}.training")
    recipe = replace(recipe, tables={**recipe.tables, "train": train})
    outcomes = vary(recipe, setting, values, teacher_path=teacher, data=data, folder=folder, seeds=range(args.seeds))
    machine = hardware(bf16=recipe.settings("train", TrainingPlan).bf16)
    if setting == "train.bf16":
        del machine["precision"]  # another for each value
    document = {
        **to_json(setting, outcomes),
        "recipe": recipe.name,
        "teacher": checkpoint_fingerprint(teacher),
        "student": dict(recipe.table("student")),
        "train": train,
        "rows": len(rows),
        "validation_rows": len(data.validation),
        "note": args.note,
        **machine,
    }
    write_json(args.output, document)
    print(json.dumps(document, ensure_ascii=False, indent=2) if args.json else "\n".join(_lines(setting, outcomes)))
    return 0


def read_setting(text: str) -> tuple[str, list[Any]]:
    """Read ``table.name=value,value``; values are TOML, and bare words are strings.

    Raises:
        RecipeError: not of that form.
    """
    from pocketseq.errors import RecipeError

    name, _, values = text.partition("=")
    if not values:
        raise RecipeError(f"expected a setting and its values, such as train.doubt=0.0,0.5, found {text!r}")
    words = (f'"{word}"' if word.isidentifier() and word not in ("true", "false") else word for word in values.split(","))
    try:
        return name, list(tomllib.loads(f"values = [{','.join(words)}]")["values"])
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"expected values as in a recipe, such as train.doubt=0.0,0.5, found {values!r}: {error}") from None


def _lines(setting: str, outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield f"{setting:<22}{'exact match':>22}{'as int8':>22}{'AUROC':>22}{'with cloud':>22}"
    for outcome in outcomes:
        yield _line(str(outcome.value), outcome.mean, "")
        if outcome.over_first:
            yield _line("  over the first", outcome.over_first, "+")
        for training in outcome.trainings:
            curve = " ".join(f"{point.step}:{100 * point.exact_match:.1f}" for point in training.curve)
            yield f"  seed {training.seed}: {curve}"
            if training.int8 is not None:
                found = (training.int8.trained, training.int8.longer, training.int8.rounded)
                told = ", ".join(f"{100 * share:.1f}" for share in found)
                yield f"    rounded to int8 as trained, after more updates, after more rounded updates: {told}"


def _line(name: str, measures: Measures, sign: str) -> str:
    found = (measures.exact_match, measures.int8_exact_match, measures.auroc, measures.with_cloud)
    cells = [f"{100 * one.value:{sign}.1f} [{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]" for one in found]
    return f"{name:<22}" + "".join(f"{cell:>22}" for cell in cells)


COMMAND = Command(name="ablate", summary="one setting at several values, side by side", configure=configure, run=run)

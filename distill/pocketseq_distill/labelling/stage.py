"""What the stage ``label`` does in a run: the teacher is asked, what came of it is counted, and what it left is asked again."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketseq.checkpoint import CheckpointCard
from pocketseq.examples import read_examples
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe
from pocketseq.template import Field, Template
from pocketseq_distill.imagining.stage import IMAGINED, IMAGINED_LABELS, asks_for_it

if TYPE_CHECKING:
    from pocketseq_distill.labelling.labels import LabelSettings

LABELS: Final = "labels/train.jsonl"
"""What the teacher answers to the rows of the corpus, in the run directory."""


def label(recipe: Recipe, run: Path) -> None:
    """Have the run's teacher label the rows, and the imagined ones where there are any."""
    from pocketseq_distill.labelling.labels import LabelSettings

    settings = recipe.settings("label", LabelSettings)
    _ask(recipe, run, run / "data/train.jsonl", run / LABELS, settings)
    if asks_for_it(recipe):  # nobody but the teacher knows an answer to what was imagined
        _ask(recipe, run, run / IMAGINED, run / IMAGINED_LABELS, replace(settings, rows=None))


def label_inputs(recipe: Recipe, run: Path) -> Any:
    """What the tables only name may change under its name: a reverse model, a causal model, the source of a function."""
    del run
    from pocketseq_distill.checkpoints import checkpoint_fingerprint, find_teacher
    from pocketseq_distill.labelling.labels import LabelSettings
    from pocketseq_distill.labelling.opening import open_teacher
    from pocketseq_distill.teacher import TeacherSettings

    reverse, settings = recipe.settings("label", LabelSettings).reverse, recipe.settings("teacher", TeacherSettings)
    if not (reverse or settings.causal or settings.function):
        return None
    return [
        checkpoint_fingerprint(find_teacher(reverse)) if reverse else None,
        open_teacher(settings, Template(fields=(Field("text", max_tokens=1),), primary="text")).teacher.id
        if settings.causal or settings.function
        else None,
    ]


def missed(recipe: Recipe, run: Path) -> int | None:
    """Rows that the last labelling of a run asked about in vain; None where there are none.

    The stage that reads the labels has it among its inputs: labels are only added, so that fewer of these rows are other labels.
    """
    names = [LABELS, *([IMAGINED_LABELS] if asks_for_it(recipe) else [])]
    counts = [path for name in names if (path := _counts(run / name)).is_file()]
    # Counts of older versions do not tell.
    return sum(json.loads(path.read_text(encoding="utf-8")).get("missed", 0) for path in counts) or None


def left(recipe: Recipe, run: Path) -> str:
    """What a finished labelling left to try again, in words; empty where it left nothing."""
    rows = missed(recipe, run)
    return f"{rows} rows without an answer, which are asked again" if rows else ""


def _ask(recipe: Recipe, run: Path, source: Path, path: Path, settings: LabelSettings) -> None:
    """Label rows; what an endpoint may cost holds for all of a run's labels."""
    from pocketseq_distill.labelling.endpoint import EndpointTeacher
    from pocketseq_distill.labelling.labels import fitting_file, label_rows, unlabelled
    from pocketseq_distill.labelling.opening import open_teacher
    from pocketseq_distill.labelling.spending import announce
    from pocketseq_distill.teacher import TeacherSettings

    rows, template = list(read_examples(source)), CheckpointCard.read(run / "teacher").template
    teacher = open_teacher(
        recipe.settings("teacher", TeacherSettings), template, checkpoint=run / "teacher", spent=run / "labels/train.spent.json"
    ).teacher
    for sentence in fitting_file(path, teacher, settings):  # the rows are about to be asked, and perhaps paid for, again
        print(sentence, file=sys.stderr)
    if isinstance(teacher, EndpointTeacher):
        announce(teacher.estimate(unlabelled(rows, path, teacher, settings), settings.asking), teacher.settings.budget)
    report = label_rows(rows, teacher, path, settings, source_field=template.primary)
    write_json(_counts(path), report.to_json())
    again = f"; {report.missed} rows have no answer: run the recipe again to ask them again" if report.missed else ""
    print(f"labels of {source.relative_to(run)}: {report}{again}", file=sys.stderr)


def _counts(labels: Path) -> Path:
    return labels.with_suffix(".counts.json")

"""The stage ``imagine``: a reverse model, and the inputs that it imagines; and what the stages after it do with these."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketseq.examples import read_examples, write_examples
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe, Stage
from pocketseq.template import Template

if TYPE_CHECKING:
    from pocketseq.tokenizer import TextTokenizer
    from pocketseq_distill.labelling.filters import Filtered, FilterSettings

IMAGINED: Final = "imagined/train.jsonl"
"""Imagined rows in the run directory."""
IMAGINED_LABELS: Final = "labels/imagined.jsonl"
"""What the teacher answers to them."""
_SHAPE: Final = ("vocab_size", "units", "d_model", "d_ff", "heads", "encoder_layers", "decoder_layers", "dropout")


def asks_for_it(recipe: Recipe) -> bool:
    """Whether a recipe has inputs imagined: its table may be empty, as every setting has a default."""
    return "imagine" in recipe.tables


def _shape(recipe: Recipe, run: Path) -> Any:
    """What the reverse model has of the teacher's table; who answers, and what that may cost, is nothing to it."""
    del run
    return {name: value for name, value in recipe.table("teacher").items() if name in _SHAPE}


def _imagine(recipe: Recipe, run: Path) -> None:
    from pocketseq_distill.distil import Data
    from pocketseq_distill.imagining.inputs import ImagineSettings, imagine, train_reverse
    from pocketseq_distill.teacher import TeacherSettings
    from pocketseq_distill.teaching import card_of_corpus
    from pocketseq_distill.training.plan import TrainingPlan

    card, data, reverse = card_of_corpus(run, recipe.task), Data.of_run(run, "data"), run / "imagined/reverse"
    shape, plan = recipe.settings("teacher", TeacherSettings), recipe.settings("imagine_train", TrainingPlan)
    train_reverse(data, reverse, card=card, settings=shape, plan=plan, recipe_name=recipe.name)
    held_out = [row for split in ("validation", "calibration", "test") for row in read_examples(run / f"data/{split}.jsonl")]
    settings = recipe.settings("imagine", ImagineSettings)
    drawn = run / "imagined/drawn.jsonl"
    found = imagine(data.train, reverse, settings, field=card.template.primary, drawn=drawn, held_out=held_out)
    write_json(run / "imagined/counts.json", found.to_json())
    write_examples(run / IMAGINED, found.rows)
    drawn.unlink(missing_ok=True)
    print(f"imagine: {found}", file=sys.stderr)


def filter_imagined(run: Path, template: Template, tokenizer: TextTokenizer, settings: FilterSettings) -> Filtered:
    """The imagined rows to learn from; what they were drawn from proves no answer wrong."""
    from pocketseq_distill.labelling.filters import filter_rows
    from pocketseq_distill.labelling.labels import read_labels

    rows = list(read_examples(run / IMAGINED))
    labels = read_labels(run / IMAGINED_LABELS, rows)
    return filter_rows(rows, labels, template, tokenizer, replace(settings, wrong="keep", unlabelled="drop"))


IMAGINE: Final = Stage(
    name="imagine",
    after=("corpus",),
    run=_imagine,
    sections={
        "imagine": "pocketseq_distill.imagining.inputs:ImagineSettings",
        "imagine_train": "pocketseq_distill.training.plan:TrainingPlan",
    },
    inputs=_shape,
    outputs=("imagined",),
    applies=asks_for_it,
    needs=("torch", "transformers", "accelerate"),
    extra="distill",
)

"""Model cards: what a checkpoint was trained on, how, and what it came to, beside its weights for people and programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pocketseq.checkpoint import CheckpointCard
from pocketseq.files import writing
from pocketseq_distill.corpus import TASKS
from pocketseq_distill.evaluation import Evaluation

_SHARES: Final = {
    "exact_match": "answers that are exactly right",
    "repaired": "slips that are repaired exactly",
    "false_alarms": "right lines that are changed",
    "edit_similarity": "edit similarity",
    "chrf": "chrF",
    "parses": "answers that parse where the true line does",
}


def record_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write an evaluation into a checkpoint: its figures into ``distillation.json``, a model card into ``README.md``.

    Args:
        path: Directory of the checkpoint.
        evaluation: What it came to on held-out rows.
    """
    figures = {key: value for key, value in evaluation.to_json().items() if key not in ("name", "predictions")}
    card = replace(CheckpointCard.read(path), metrics=figures)
    card.write(path)
    with writing(path / "README.md") as file:
        file.write("\n".join(_lines(path.name, card)) + "\n")


def _lines(name: str, card: CheckpointCard) -> Iterator[str]:
    metrics = card.metrics
    yield from ("---", f"license: {card.license.lower() or 'other'}", "library_name: transformers", "---", "", f"# {name}", "")
    yield (
        f"An encoder-decoder for the task *{card.task}*: {metrics['parameters'] / 1e6:.1f} million parameters, "
        f"{metrics['size_bytes'] / 1e6:.1f} MB. `AutoModelForSeq2SeqLM.from_pretrained` loads it; `pocketseq serve` serves it."
    )
    if card.data:
        yield from ("", "## Data", "")
        yield f"{card.data['rows']:,} rows of *{card.task}*, fingerprint `{card.data['fingerprint']}`."
    if card.task in TASKS:
        yield "Rows come from the standard library of the interpreter that trained it, split by file; no test file was trained on."
    if card.training:
        yield from _training_lines(card)
    yield from ("", "## Metrics", "", f"On {metrics['n']:,} rows of the test split, answered greedily.", "", "| | |", "|---|---|")
    yield from (f"| {label} | {100 * metrics[key]:.1f}% |" for key, label in _SHARES.items() if metrics[key] is not None)
    kinds: Mapping[str, Any] = metrics["by_kind"]
    if kinds:
        yield from ("", "| kind of row | rows | exactly right |", "|---|---|---|")
        yield from (f"| {kind} | {found['n']} | {100 * found['exact_match']:.1f}% |" for kind, found in kinds.items())


def _training_lines(card: CheckpointCard) -> Iterator[str]:
    training, source = card.training, f"distilled from `{card.teacher}`" if card.teacher else "trained from nothing"
    yield from ("", "## Training", "")
    yield (
        f"Recipe `{card.recipe['name']}`, {source}: {training['steps']:,} updates in {training['minutes']:.0f} minutes, "
        f"{training['threads']} thread(s) of {training['device']}."
    )
    yield from ("", "| setting | value |", "|---|---|")
    for table in ("teacher", "teacher_train", "student", "train"):
        yield from (f"| {key} | {value} |" for key, value in card.recipe.get(table, {}).items() if value is not None)
    yield from ("", "Libraries: " + ", ".join(f"{library} {version}" for library, version in card.versions.items()) + ".")

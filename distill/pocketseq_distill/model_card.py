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


def record_evaluation(path: Path, evaluation: Evaluation, *, data: str) -> None:
    """Write an evaluation into a checkpoint: its figures into ``distillation.json``, a model card into ``README.md``.

    Args:
        path: Directory of the checkpoint.
        evaluation: What it came to on held-out rows.
        data: What people call these rows, such as the name of their file.
    """
    figures = {key: value for key, value in evaluation.to_json().items() if key not in ("name", "predictions")}
    replace(CheckpointCard.read(path), metrics={**figures, "data": data}).write(path)
    write_model_card(path)


def write_model_card(path: Path) -> None:
    """Write ``README.md`` from what ``distillation.json`` says.

    Args:
        path: Directory of a checkpoint whose evaluation is recorded.
    """
    card = CheckpointCard.read(path)
    with writing(path / "README.md") as file:
        file.write("\n".join(_lines(path.name, card)) + "\n")


def _lines(name: str, card: CheckpointCard) -> Iterator[str]:
    metrics = card.metrics
    yield from ("---", f"license: {card.license.lower() or 'other'}", "library_name: transformers", "---", "", f"# {name}", "")
    yield (
        f"An encoder-decoder for the task *{card.task}*: {metrics['parameters'] / 1e6:.1f} million parameters, "
        f"{metrics['size_bytes'] / 1e6:.1f} MB. `AutoModelForSeq2SeqLM.from_pretrained` loads it; `pocketseq serve` serves it."
    )
    if card.teacher:
        yield f"Distilled from the teacher with the fingerprint `{card.teacher}`."
    if card.task in TASKS:
        yield "Rows come from the standard library of the interpreter that trained it, split by file; no test file was trained on."
    for number, stage in enumerate(_stages(card), start=1):
        yield from _training_lines(stage, number)
    yield from ("", "Libraries: " + ", ".join(f"{library} {version}" for library, version in card.versions.items()) + ".")
    yield from ("", "## Metrics", "", f"On {metrics['n']:,} {_rows(metrics)}, answered greedily.", "", "| | |", "|---|---|")
    yield from (f"| {label} | {100 * metrics[key]:.1f}% |" for key, label in _SHARES.items() if metrics[key] is not None)
    kinds: Mapping[str, Any] = metrics["by_kind"]
    if kinds:
        yield from ("", "| kind of row | rows | exactly right |", "|---|---|---|")
        yield from (f"| {kind} | {found['n']} | {100 * found['exact_match']:.1f}% |" for kind, found in kinds.items())


def _rows(metrics: Mapping[str, Any]) -> str:
    return f"rows of `{metrics['data']}`" if "data" in metrics else "held-out rows"  # cards of earlier versions do not tell


def _stages(card: CheckpointCard) -> list[Mapping[str, Any]]:
    """Trainings that followed one another, first to last: what each learnt from, how, and how long."""
    stages: list[Mapping[str, Any]] = []
    stage: Mapping[str, Any] | None = {"data": card.data, "recipe": card.recipe, "training": card.training}
    while stage and stage["training"]:
        stages.insert(0, stage)
        stage = stage["training"].get("before")
    return stages


def _training_lines(stage: Mapping[str, Any], number: int) -> Iterator[str]:
    data, recipe, training = stage["data"], stage["recipe"], stage["training"]
    threads = training.get("threads")
    yield from ("", f"## Training {number}", "")
    yield (
        f"Recipe `{recipe['name']}`: {training['steps']:,} updates in {training['minutes']:.0f} minutes, "
        f"{f'{threads} thread(s) of ' if threads else 'on '}{training['device']}, "
        f"on {data['rows']:,} rows with the fingerprint `{data['fingerprint']}`."
    )
    yield from ("", "| setting | value |", "|---|---|")
    for table in ("teacher", "teacher_train", "student", "train"):
        yield from (f"| {key} | {value} |" for key, value in recipe.get(table, {}).items() if value is not None)

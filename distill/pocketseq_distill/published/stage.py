"""The stage ``table``: what a run's models came to by their task's protocol; writes ``table.json``, which is the result file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketseq.bundle import open_bundle
from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import Example, read_examples
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe, Stage
from pocketseq.records import plain
from pocketseq_distill.checkpoints import read_ensemble
from pocketseq_distill.published.tasks import PUBLISHED

if TYPE_CHECKING:
    from pocketseq_distill.published.table import ModelResult
    from pocketseq_distill.published.timing import Ask

_SHIPPED: Final = "student-int8"


@dataclass(frozen=True, slots=True)
class TableSettings:
    """The table ``[table]``; on data that nobody has published results on, a recipe with one asks for a table of its own."""

    latency_rows: int = 200
    """Rows of the test split that are timed, from its start."""
    resamples: int = 1000
    """Samples of rows that an interval is made of."""
    runtime: str = "onnx"
    """Runtime of the bundle's students in the table."""

    def __post_init__(self) -> None:
        for name in ("latency_rows", "resamples"):
            if (found := getattr(self, name)) < 1:
                raise RecipeError(f"[table]: expected {name} of 1 or more, found {found}")


def table(recipe: Recipe, run: Path) -> None:
    """Score and time the run's models, hold the shipped student to its goals, and write ``table.json``.

    Raises:
        DataError: an evaluation is missing, or was made on other rows than the whole test split.
        BundleError: the run has no int8 variant for the runtime.
        RecipeError: less than one row to time, or less than one sample.
    """
    from pocketseq.machine import processor
    from pocketseq.model import PocketModel
    from pocketseq_distill.evaluation import Latency
    from pocketseq_distill.generation import TeacherModel
    from pocketseq_distill.published.protocols import lead, protocol_of
    from pocketseq_distill.published.results import GOALS, RESULTS
    from pocketseq_distill.published.table import ResultTable, claims
    from pocketseq_distill.published.timing import time_in_turns
    from pocketseq_distill.teacher import TeacherSettings

    settings, task = recipe.settings("table", TableSettings), PUBLISHED.get(recipe.task)
    rows = list(read_examples(run / "data/test.jsonl"))
    here = ["student", *(["plain"] if recipe.table("plain_train") else [])]
    through_text = recipe.settings("teacher", TeacherSettings).through_text
    if not through_text:
        here.insert(0, "teacher")
    evaluated = {name: _evaluation(run / f"evaluation/{name}.json", rows) for name in here}
    if through_text and (asked := _asked_teacher(run / "evaluation/teacher.json", rows)) is not None:
        evaluated = {"teacher": asked, **evaluated}
    with ExitStack() as stack:
        shipped = [
            stack.enter_context(PocketModel.load(run / "bundle", runtime=settings.runtime, precision=precision))
            for precision in _precisions(run / "bundle", settings.runtime)
        ]
        answers = []
        for model in shipped:
            print(f"table: {len(rows)} rows by {model.variant.label}", file=sys.stderr)
            answers.append([model.generate(row.fields).text for row in rows])
        asks: dict[str, Ask] = {name: _asks(TeacherModel.load(run / name)) for name in here}
        asks |= {model.variant.label: model.generate for model in shipped}
        times = time_in_turns(asks, [row.fields for row in rows[: settings.latency_rows]])
    models: list[ModelResult] = []
    texts_of = {name: [answer["text"] for answer in evaluation["predictions"]] for name, evaluation in evaluated.items()}
    for name, evaluation in evaluated.items():
        texts = texts_of[name]
        if name in here:
            training = _training(run / name)
            models.append(_result(recipe, rows, texts, evaluation, name=name, latency=times[name], training=training))
        else:
            taken = evaluation["latency_ms"] and Latency(**evaluation["latency_ms"])
            runtime, precision = evaluation["runtime"], evaluation["precision"]
            models.append(_result(recipe, rows, texts, evaluation, name=name, latency=taken, runtime=runtime, precision=precision))
        if name == "student":
            for model, given in zip(shipped, answers, strict=True):
                variant = model.variant
                models.append(
                    _result(
                        recipe,
                        rows,
                        given,
                        {**evaluation, "size_bytes": variant.size_bytes},
                        name=_SHIPPED if variant.precision == "int8" else name,
                        latency=times[variant.label],
                        runtime=variant.runtime,
                        precision=variant.precision,
                    )
                )
    corpus = json.loads((run / "data/corpus.json").read_text(encoding="utf-8"))
    protocol = protocol_of(recipe.task)
    # The student that ships is the last of the bundle's.
    ahead = lead(protocol, rows, answers[-1], texts_of["plain"], resamples=settings.resamples) if "plain" in texts_of else None
    document = ResultTable(
        recipe=recipe.name,
        task=recipe.task,
        protocol=protocol,
        origin=task.origin if task else _origin(recipe, corpus),
        data=corpus["fingerprint"],
        test_rows=len(rows),
        models=tuple(models),
        published=RESULTS.get(recipe.task, ()),
        # Of the students of one name the first was trained; the bundle's is made of it.
        claims=claims({model.name: model for model in reversed(models)}, GOALS.get(recipe.task), ahead),
        machine=processor(),
    )
    write_json(run / "table.json", plain(document))
    for claim in document.claims:
        print(f"{'reached ' if claim.holds else 'missed  '} {claim.what}: {claim.wanted}, found {claim.found}", file=sys.stderr)


def _origin(recipe: Recipe, corpus: Mapping[str, Any]) -> str:
    return "rows of the user's" if recipe.table("pairs") else f"the standard library of Python {corpus['python']}"


def _precisions(bundle: Path, runtime: str) -> list[str]:
    """What of the bundle is scored: full precision where it is there, which shows what rounding costs, and int8, which ships."""
    with open_bundle(bundle) as opened:
        held = {variant.precision for variant in opened.manifest.variants if variant.runtime == runtime}
    return [*(["fp32"] if "fp32" in held else []), "int8"]


def _evaluation(path: Path, rows: Sequence[Example]) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected an evaluation, found none: {error}; run the stage 'evaluate' first") from None
    ids = [prediction["id"] for prediction in value["predictions"]]
    if ids != [row.id for row in rows]:
        raise DataError(
            f"{path}: expected answers to all {len(rows):,} rows of the test split in order, found {len(ids):,} of other rows or "
            "fewer; leave 'rows' out of [evaluate] and run it again"
        )
    return value


def _asked_teacher(path: Path, rows: Sequence[Example]) -> dict[str, Any] | None:
    """A teacher through text, by its answers; None, said aloud, where it was not asked about every row, as these may cost money."""
    try:
        return _evaluation(path, rows)
    except DataError as error:
        print(f"table: without a row for the teacher: {error}", file=sys.stderr)
        return None


def _asks(model: Any) -> Ask:
    return lambda fields: model.answer([fields])


def _training(path: Path) -> dict[str, Any] | None:
    """How a model was trained, how many updates were planned, and how often it has seen each of its rows. One that was trained on
    from where it stood tells the updates before as well, and passes and minutes of all. An ensemble that was trained as one tells
    every member's updates, the minutes of all, and the rest of the first. One that came from elsewhere tells nothing, and nor does
    one that was joined of others, whose trainings are unlike.
    """
    card, ensemble = CheckpointCard.read(path), read_ensemble(path)
    plan, goes = _plan(card.recipe), _goes(card)
    if not goes:
        return None
    passes = [go.passes for go in goes]
    told = {
        "seed": plan.get("seed"),
        "planned_steps": plan.get("steps"),
        **card.training,
        "passes": None if None in passes else round(sum(found or 0.0 for found in passes), 2),
        "minutes": sum(go.minutes for go in goes),
        **({"earlier_steps": sum(go.steps for go in goes[1:])} if goes[1:] else {}),
    }
    told.pop("before", None)
    if ensemble is None:
        return told
    members = [_goes(CheckpointCard.read(member)) for member in (path, *ensemble.others)]
    if card.recipe.get("teacher", {}).get("members") != len(members):
        return None
    steps = [sum(go.steps for go in behind) for behind in members]
    return {
        **told,
        "members": len(members),
        "member_steps": steps,
        "minutes": sum(go.minutes for behind in members for go in behind),
    }


@dataclass(frozen=True, slots=True)
class _Go:
    """One of the trainings that a checkpoint has behind it."""

    steps: int
    minutes: float
    passes: float | None
    """Over its rows; None where the card does not tell their number."""


def _goes(card: CheckpointCard) -> list[_Go]:
    """The trainings of a checkpoint, the last one first; none where it came from elsewhere."""
    goes: list[_Go] = []
    part: Mapping[str, Any] | None = {"data": card.data, "recipe": card.recipe, "training": card.training}
    while part is not None and "steps" in part["training"]:
        plan, rows, steps = _plan(part["recipe"]), part["data"].get("rows"), part["training"]["steps"]
        passes = plan["batch_size"] * plan.get("accumulation", 1) * steps / rows if plan and rows else None
        goes.append(_Go(steps, part["training"].get("minutes", 0.0), passes))
        part = part["training"].get("before")
    return goes


def _plan(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((value for key, value in recipe.items() if key.endswith("train")), {})


def _result(
    recipe: Recipe,
    rows: Sequence[Example],
    answers: Sequence[str],
    measured: Mapping[str, Any],
    *,
    name: str,
    latency: Any,
    runtime: str = "pytorch",
    precision: str = "fp32",
    training: Mapping[str, Any] | None = None,
) -> ModelResult:
    from pocketseq_distill.published.protocols import protocol_of, scores
    from pocketseq_distill.published.table import ModelResult

    resamples = recipe.settings("table", TableSettings).resamples
    return ModelResult(
        name=name,
        runtime=runtime,
        precision=precision,
        parameters=measured["parameters"],
        size_bytes=measured["size_bytes"],
        scores=scores(protocol_of(recipe.task), rows, answers, resamples=resamples),
        latency_ms=latency,
        training=training,
    )


TABLE: Final = Stage(
    name="table",
    after=("corpus", "teacher", "train", "plain", "evaluate", "verify"),
    run=table,
    sections={"table": f"{__name__}:TableSettings"},
    inputs=lambda recipe, _: recipe.name,
    outputs=("table.json",),
    applies=lambda recipe: recipe.task in PUBLISHED or "table" in recipe.tables,
    needs=("torch", "transformers"),
    extra="distill",
)

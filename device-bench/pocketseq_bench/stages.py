"""The last stages of a run: ``suggest`` with the teacher as the cloud, ``bench`` on this machine, and the ``report``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pocketseq import CloudEndpoint, Hybrid, PocketModel, Policy
from pocketseq.errors import RecipeError
from pocketseq.examples import Example, read_examples
from pocketseq.files import sha256, write_json, writing
from pocketseq.pipeline import Recipe, Stage
from pocketseq.pipeline.progress import Progress
from pocketseq_bench.measuring import BenchInputs, BenchSettings, run_bench
from pocketseq_bench.report import headline, read_findings, report_document, report_page
from pocketseq_bench.routed import FORMAT, measure_hybrid
from pocketseq_bench.served import served


@dataclass(frozen=True, slots=True)
class SuggestSettings:
    """The table ``[suggest]``."""

    rows: int | None = None
    """Rows of the test split to ask about, from its start; None for all."""
    precision: str | None = None
    """Of the variant that stays on the device; None takes the one that the bundle prefers."""
    deadline_ms: float = 20_000
    """From call to answer; generous, as the cloud of a run shares the machine with the device."""

    def __post_init__(self) -> None:
        _require_rows("suggest", self.rows)


@dataclass(frozen=True, slots=True)
class StageSettings:
    """The table ``[bench]``."""

    rows: int | None = None
    """Rows of the test split to measure on, from its start; None for all. Each is asked once by every variant."""
    warmup: int = 20
    """Suggestions before the first that counts."""
    minutes: float = 10.0
    """Time for all variants together."""

    def __post_init__(self) -> None:
        _require_rows("bench", self.rows)


def _require_rows(section: str, rows: int | None) -> None:
    if rows is not None and rows < 1:
        raise RecipeError(f"[{section}]: rows: expected at least 1, found {rows}")


def suggest(recipe: Recipe, directory: Path) -> None:
    """Answer rows of the test split on the device, with the run's teacher behind HTTP as the cloud; writes ``hybrid.json``.

    A causal model or a function that labelled is the one that is served; in an endpoint's place stands what students are cut from.

    Raises:
        BundleError: the run has no usable bundle.
        EndpointError: the teacher cannot be served.
        RecipeError: less than one row is asked for.
    """
    settings = recipe.settings("suggest", SuggestSettings)
    rows = _rows(directory, settings.rows)
    policy = Policy(mode="prefer_local", deadline_ms=settings.deadline_ms, cache_size=0)  # each row is to be answered anew
    kinds = {"causal", "endpoint", "function"} & set(recipe.table("teacher"))
    # An endpoint's answers cost money, and none of them are asked for here.
    cloud = directory if kinds and "endpoint" not in kinds else directory / "teacher"
    with (
        served(cloud, log=directory / "serve.log") as server,
        CloudEndpoint(server.url, model=server.model) as endpoint,
        PocketModel.load(directory / "bundle", precision=settings.precision) as model,
    ):
        measured = measure_hybrid(Hybrid(model, endpoint, policy), rows, progress=Progress("suggest", len(rows)))
    calibration = model.calibration if model.calibration is not None and model.calibration.feasible else None
    note = (
        "the cloud's answers are those of the model that the student was cut from, not of the endpoint that labelled, as asking "
        "that costs money"
    )
    document = {
        "format": FORMAT,
        **({"note": note} if "endpoint" in kinds else {}),
        "runtime": model.variant.runtime,
        "precision": model.variant.precision,
        "threshold": calibration.threshold if calibration else None,
        "risk": calibration.risk if calibration else None,
        "delta": calibration.delta if calibration else None,
        "loss": calibration.loss if calibration else None,
        "scorer": calibration.scorer if calibration else None,
        "suggestions": measured.shown(model.template.primary),
        **measured.to_json(),
    }
    write_json(directory / "hybrid.json", document)


def bench(recipe: Recipe, directory: Path) -> None:
    """Measure every variant of the run's bundle on rows of the test split, quickly; writes ``bench.json``.

    Raises:
        BundleError: the run has no usable bundle.
        RecipeError: less than one row is asked for.
    """
    given = recipe.settings("bench", StageSettings)
    rows = _rows(directory, given.rows)
    settings = BenchSettings(
        starts=3,
        cold_starts=1,
        warmup=given.warmup,
        least_rounds=1,
        passes=1,
        tolerance=1.0,
        budget_s=60 * given.minutes,
        repeats=2,
    )
    inputs = BenchInputs.of_examples(rows, origin="data/test.jsonl")
    run_bench(directory / "bundle", inputs=inputs, settings=settings, directory=directory)


def _rows(directory: Path, count: int | None) -> list[Example]:
    return list(read_examples(directory / "data" / "test.jsonl"))[:count]


def _report_inputs(recipe: Recipe, directory: Path) -> Any:
    """The gap is measured by a command of its own, when somebody asks; a table only of tasks that have one."""
    files = [directory / name for name in ("gap.json", "table.json")]
    return [recipe.name, judged_by(recipe), *(sha256(file) if file.is_file() else None for file in files)]


def judged_by(recipe: Recipe) -> str:
    """The measure that training chose its checkpoint by, which decides where the task has no published table."""
    return str(recipe.table("train").get("judged_by", "exact_match"))


def report(recipe: Recipe, directory: Path) -> None:
    """Put together what the run found; writes ``report.json`` and ``report.html``.

    Raises:
        DataError: a result is missing.
    """
    findings = read_findings(directory, recipe=recipe.name, task=recipe.task, judged_by=judged_by(recipe))
    write_json(directory / "report.json", report_document(findings))
    with writing(directory / "report.html") as file:
        file.write(report_page(findings))
    print(f"report: {headline(findings)} {directory / 'report.html'} shows all of it", file=sys.stderr)


SUGGEST: Final = Stage(
    name="suggest",
    after=("corpus", "teacher", "calibrate"),
    run=suggest,
    sections={"suggest": f"{__name__}:SuggestSettings"},
    outputs=("hybrid.json",),
    needs=("openai", "torch", "transformers", "uvicorn"),
)
BENCH: Final = Stage(
    name="bench",
    after=("corpus", "calibrate"),
    run=bench,
    sections={"bench": f"{__name__}:StageSettings"},
    outputs=("bench.json",),
    needs=("psutil",),
)
REPORT: Final = Stage(
    name="report",
    after=("evaluate", "suggest", "bench"),
    run=report,
    inputs=_report_inputs,
    outputs=("report.json", "report.html"),
)

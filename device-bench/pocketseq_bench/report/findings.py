"""What a run found, read from the files that its stages left in the run directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketseq.errors import DataError
from pocketseq.records import plain
from pocketseq_bench.document import read_document
from pocketseq_bench.report.choice import JudgedVariant, read_judged
from pocketseq_bench.report.gap import read_gap
from pocketseq_bench.report.protocol import read_table
from pocketseq_bench.row import Row


@dataclass(frozen=True, slots=True)
class ModelFindings:
    """One model on one runtime, measured on the test split."""

    name: str
    """``teacher``, ``student`` (full precision) or ``student-<precision>``."""
    runtime: str
    """What ran it, such as ``pytorch`` or ``onnx``."""
    precision: str
    """Of its weights, such as ``fp32`` or ``int8``."""
    parameters: int | None
    """Weights in all, each shared one counted once; None of a teacher that answers through text and does not tell."""
    size_bytes: int | None
    """On disk; None likewise."""
    n: int
    """Rows that the shares are taken over."""
    quality: Mapping[str, float | None]
    """Shares in 0…1 by name: ``exact_match``, ``edit_similarity``, ``parses``, ``repaired``, ``false_alarms``, ``chrf``."""
    p50_ms: float | None
    """Median time of one suggestion, end to end, one thread; None where it was not measured."""
    p95_ms: float | None
    """The time that 95 of 100 suggestions stayed within."""
    note: str = ""
    """Why a number is not known, where one is not."""


@dataclass(frozen=True, slots=True)
class SuggestionFindings:
    """One suggestion as a person would have seen it."""

    line: str
    """What stood in the editor."""
    answer: str
    """What was suggested."""
    target: str
    """What was right."""
    source: str
    """``local`` or ``cloud``."""
    confidence: float | None
    """Of the local answer, in 0…1."""
    reason: str
    """Why this source answered."""


@dataclass(frozen=True, slots=True)
class HybridFindings:
    """The quantized student with the served teacher behind it."""

    n: int
    """Rows of the test split that were asked."""
    variant: str
    """Precision of the local model."""
    coverage: float
    """Share of rows answered on the device because the confidence was high enough."""
    cloud_fraction: float
    """Share of rows whose answer came from the endpoint."""
    exact_match: float
    """Of the answers shown, whichever their source."""
    local_exact_match: float
    """Of the local model alone, on the same rows."""
    threshold: float | None
    """Confidence from which the local answer is served; None where nothing could be promised."""
    risk: float | None
    """The share of wrong answers among those served locally that the threshold promises to stay under."""
    delta: float | None
    """Probability that the promise does not hold."""
    auroc: float | None
    """How well the confidence separates right from wrong answers on these rows."""
    p50_ms: float
    """Median time of one hybrid suggestion, end to end."""
    p95_ms: float
    """The time that 95 of 100 hybrid suggestions stayed within."""
    confidences: tuple[float, ...]
    """Of the local answer, by row."""
    correct: tuple[bool, ...]
    """Whether the local answer was exactly right, by row."""
    suggestions: tuple[SuggestionFindings, ...]
    """A few for people to look at."""
    note: str = ""
    """What the cloud was, where it was not the teacher."""
    chrf: float | None = None
    """Of the answers shown, whichever their source; None in runs from before it was measured, as the next two."""
    local_chrf: float | None = None
    """Of the local model alone, on the same rows."""
    likeness: tuple[float, ...] = ()
    """chrF of the local answer, by row."""
    loss: str | None = None
    """What the promise is about, such as ``exact`` or ``chrf``; None where there is none, or in runs from before it was kept."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that a report is made of."""

    recipe: str
    """Name of the recipe."""
    task: str
    """Name of the task."""
    models: tuple[ModelFindings, ...]
    """The teacher first, then the student's variants, the largest first, and last the one that the hybrid used."""
    hybrid: HybridFindings
    """The two together."""
    parity: tuple[Mapping[str, Any], ...]
    """For each variant that was compared with PyTorch: ``runtime``, ``precision``, ``inputs``, ``identical_generations``,
    ``max_abs_logit_difference``."""
    startup_ms: Mapping[str, float]
    """Fresh process with the variant that ships: ``import_ms``, ``load_ms``, ``first_ms``."""
    environment: Mapping[str, Any]
    """Where it was measured."""
    judged: tuple[JudgedVariant, ...] = ()
    """All variants that verification saw, those that it did not keep too; none where the run has no verification."""
    gap: Mapping[str, Any] | None = None
    """Where quality was lost between teacher and student, as ``pocketseq gap`` found it; None where it was not asked."""
    table: Mapping[str, Any] | None = None
    """Scores by the published protocol of the task, as the stage ``table`` found them; None for a task without one."""
    judged_by: str = "exact_match"
    """Measure that decides where there is no table; the one that training chose its checkpoint by."""


def read_findings(directory: Path, *, recipe: str, task: str, judged_by: str = "exact_match") -> Findings:
    """Read what the stages of a run have found.

    Args:
        directory: The run directory.
        recipe: Name of the recipe.
        task: Name of the task.
        judged_by: ``exact_match`` or ``chrf``: what decides where the task has no published table.

    Raises:
        DataError: a file is missing or lacks a value; run the stage that writes it.
    """
    teacher, student = (_read(directory / "evaluation" / f"{name}.json") for name in ("teacher", "student"))
    bench = read_document(directory / "bench.json")
    hybrid = _read(directory / "hybrid.json")
    try:
        shipped = hybrid["runtime"], hybrid["precision"]
        measured = [row for row in bench.rows if row.stages_ms and row.startup is not None]
        measured.sort(key=lambda row: (row.runtime, row.precision) == shipped)
        models = [_evaluated(teacher), *(_benched(row, student["parameters"]) for row in measured)]
        parity = tuple({"runtime": row.runtime, "precision": row.precision, **row.parity} for row in measured if row.parity)
        return Findings(
            recipe=recipe,
            task=task,
            models=tuple(models),
            hybrid=_hybrid(hybrid),
            parity=parity,
            startup_ms={name: samples["p50"] for name, samples in plain(measured[-1].startup).items()},
            environment=plain(bench.device),
            judged=read_judged(directory),
            gap=read_gap(directory),
            table=read_table(directory),
            judged_by=judged_by,
        )
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{directory}: expected the results of a finished run, found no {error}; run its stages again") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected the results of a stage, found none: {error}; run the stage that writes it") from None
    return value


def _evaluated(value: Mapping[str, Any]) -> ModelFindings:
    latency = value["latency_ms"] or {"p50": None, "p95": None}
    return ModelFindings(
        name=value["name"],
        runtime=value.get("runtime", "pytorch"),
        precision=value.get("precision", "fp32"),
        parameters=value["parameters"],
        size_bytes=value["size_bytes"],
        n=value["n"],
        quality=_quality(value),
        p50_ms=latency["p50"],
        p95_ms=latency["p95"],
        note=value.get("note", ""),
    )


def _benched(row: Row, parameters: int) -> ModelFindings:
    return ModelFindings(
        name="student" if row.precision == "fp32" else f"student-{row.precision}",
        runtime=row.runtime,
        precision=row.precision,
        parameters=parameters,
        size_bytes=row.size_bytes,
        n=row.quality_n,
        quality=_quality(row.quality),
        p50_ms=row.stages_ms["total"].p50,
        p95_ms=row.stages_ms["total"].p95,
    )


def _quality(value: Mapping[str, Any]) -> dict[str, float | None]:
    needed = {name: value[name] for name in ("exact_match", "edit_similarity")}
    return needed | {name: value.get(name) for name in ("parses", "repaired", "false_alarms", "chrf")}


def _hybrid(value: Mapping[str, Any]) -> HybridFindings:
    rows = value["rows"]
    names = ("coverage", "cloud_fraction", "exact_match", "local_exact_match", "threshold", "risk", "delta", "auroc")
    return HybridFindings(
        n=len(rows),
        variant=value["precision"],
        **{name: value[name] for name in names},
        p50_ms=value["latency_ms"]["p50"],
        p95_ms=value["latency_ms"]["p95"],
        confidences=tuple(row["confidence"] for row in rows),
        correct=tuple(row["local_correct"] for row in rows),
        suggestions=tuple(SuggestionFindings(**suggestion) for suggestion in value["suggestions"]),
        note=value.get("note", ""),
        chrf=value.get("chrf"),
        local_chrf=value.get("local_chrf"),
        loss=value.get("loss"),
        likeness=tuple(row["local_chrf"] for row in rows if "local_chrf" in row),
    )

"""Findings as a run leaves them, small enough to check by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.bench.benches import document, row
from tests.distill.models import make_checkpoint, repair_examples

from pocketseq import write_examples
from pocketseq_bench.document import write_document
from pocketseq_bench.report import Findings, read_findings
from pocketseq_export.packing import export_checkpoint


def evaluation(name: str, exact_match: float) -> dict[str, Any]:
    quality = {
        "exact_match": exact_match,
        "edit_similarity": 0.97,
        "chrf": 0.95,
        "parses": 0.99,
        "repaired": 0.7,
        "false_alarms": 0.03,
    }
    latency = {"p50": 150.0, "p95": 400.0}
    return {
        "name": name,
        "parameters": 19_000_000,
        "size_bytes": 38_000_000,
        "n": 4,
        **quality,
        "latency_ms": latency,
        "by_kind": {},
    }


def hybrid() -> dict[str, Any]:
    confidences = [(0.9, True), (0.8, True), (0.6, False), (0.2, True)]
    shown = {"line": "x = <1", "answer": "x = 1", "target": "x = 1", "source": "local", "confidence": 0.9, "reason": "sure"}
    return {
        "runtime": "onnx",
        "precision": "int8",
        "coverage": 0.5,
        "cloud_fraction": 0.5,
        "exact_match": 1.0,
        "local_exact_match": 0.75,
        "threshold": 0.7,
        "risk": 0.1,
        "delta": 0.05,
        "auroc": 2 / 3,
        "latency_ms": {"p50": 25.0, "p95": 300.0},
        "rows": [{"confidence": confidence, "local_correct": correct} for confidence, correct in confidences],
        "suggestions": [shown, shown | {"answer": "x = <1", "source": "cloud"}],
    }


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """What the stages before the report leave behind."""
    files = {
        "evaluation/teacher.json": evaluation("teacher", 0.74),
        "evaluation/student.json": evaluation("student", 0.72) | {"parameters": 6_000_000},
        "hybrid.json": hybrid(),
    }
    for name, value in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    write_document(tmp_path / "bench.json", document(row("int8", 6_500_000, 0.71), row("fp32", 24_000_000, 0.72)))
    return tmp_path


@pytest.fixture
def findings(run_directory: Path) -> Findings:
    """The same, read."""
    return read_findings(run_directory, recipe="tiny", task="python-fix")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a teacher of random weights, its bundle, and rows: what the stages of this room start from.

    The bundle has a variant for Core ML, which no system that runs these tests but a Mac can open.
    """
    directory = tmp_path_factory.mktemp("run")
    torch.set_num_threads(1)
    make_checkpoint(directory / "teacher")
    export_checkpoint(
        directory / "teacher", directory / "bundle", name="tiny", runtimes=("onnx", "coreml"), precisions=("onnx/fp32", "int8")
    )
    for split, seed in (("calibration", 1), ("test", 2)):
        write_examples(directory / "data" / f"{split}.jsonl", repair_examples(12, seed=seed))
    return directory

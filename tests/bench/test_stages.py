"""The last stages of a run, on a real bundle with a real teacher behind HTTP."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.sdk.tiny import calibration

from pocketseq import PocketModel, read_examples
from pocketseq.bundle import open_bundle, write_manifest
from pocketseq.errors import RecipeError
from pocketseq.pipeline import Recipe
from pocketseq.pipeline.calibrate import CALIBRATE
from pocketseq.records import plain
from pocketseq_bench.stages import BENCH, REPORT, SUGGEST
from pocketseq_distill.evaluation import EvaluationSettings, evaluate_checkpoint

RECIPE = """
[recipe]
name = "tiny"
task = "repair"
format = 1

[calibrate]
risk = 0.5
delta = 0.5

[suggest]
rows = 6

[bench]
rows = 5
warmup = 1
"""


@pytest.fixture
def run_directory(exported: Path, tmp_path: Path) -> Path:
    """A copy of a run that has come as far as its bundle."""
    directory = tmp_path / "run"
    shutil.copytree(exported, directory)
    return directory


def test_calibrate_binds_a_threshold_to_every_variant_that_runs_here(
    run_directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundle holds it afterwards, and so does a file beside it; what cannot run has none, nor an earlier one, and is named."""
    monkeypatch.setattr("pocketseq.runtimes.macos.macos_version", lambda: None)
    with open_bundle(run_directory / "bundle") as bundle:
        manifest = bundle.manifest
    elsewhere = next(variant for variant in manifest.variants if variant.label == "coreml/int8")
    earlier = calibration(variant=elsewhere.hash)
    write_manifest(run_directory / "bundle", manifest.replacing(replace(elsewhere, calibration=earlier)))
    CALIBRATE.run(Recipe.parse(RECIPE, where="tiny"), run_directory)
    with open_bundle(run_directory / "bundle") as bundle:
        assert [variant.label for variant in bundle.manifest.variants if variant.calibration is None] == ["coreml/int8"]
    written = json.loads((run_directory / "calibration.json").read_text(encoding="utf-8"))
    assert [(variant["runtime"], variant["precision"]) for variant in written["variants"]] == [("onnx", "int8"), ("onnx", "fp32")]
    assert "calibrate coreml/int8: left without a calibration: the variant coreml/int8 is run by Core ML" in capsys.readouterr().err
    for precision in ("fp32", "int8"):
        with PocketModel.load(run_directory / "bundle", precision=precision) as model:
            assert model.calibration is not None
            assert model.calibration.risk == 0.5


def test_calibrating_on_no_rows_is_refused(run_directory: Path) -> None:
    """A number below zero drops no rows from the end of the split."""
    recipe = Recipe.parse(RECIPE.replace("risk = 0.5", "risk = 0.5\nrows = -3"), where="tiny")
    with pytest.raises(RecipeError, match=r"\[calibrate\]: rows: expected at least 1, found -3"):
        CALIBRATE.run(recipe, run_directory)
    assert not (run_directory / "calibration.json").exists()


def test_suggestions_for_no_rows_are_refused(run_directory: Path) -> None:
    """Before a teacher is served; a number below zero drops no rows from the end of what is measured either."""
    with pytest.raises(RecipeError, match=r"\[bench\]: rows: expected at least 1, found -3"):
        BENCH.run(Recipe.parse(RECIPE.replace("rows = 5", "rows = -3"), where="tiny"), run_directory)
    recipe = Recipe.parse(RECIPE.replace("rows = 6", "rows = 0"), where="tiny")
    with pytest.raises(RecipeError, match=r"\[suggest\]: rows: expected at least 1, found 0"):
        SUGGEST.run(recipe, run_directory)


def test_a_run_ends_in_its_report(run_directory: Path) -> None:
    """Calibrate, suggest, bench and report, as ``pocketseq run`` calls them."""
    recipe = Recipe.parse(RECIPE, where="tiny")
    rows = list(read_examples(run_directory / "data/test.jsonl"))
    (run_directory / "evaluation").mkdir()
    for name in ("teacher", "student"):
        evaluation = evaluate_checkpoint(run_directory / "teacher", rows, EvaluationSettings(latency_rows=2), name=name)
        (run_directory / f"evaluation/{name}.json").write_text(json.dumps(plain(evaluation.to_json())), encoding="utf-8")
    for stage in (CALIBRATE, SUGGEST, BENCH, REPORT):
        stage.run(recipe, run_directory)
        assert all((run_directory / output).exists() for output in stage.outputs)
    report = json.loads((run_directory / "report.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in report["rows"]] == ["teacher", "student", "student-int8"]
    hybrid = json.loads((run_directory / "hybrid.json").read_text(encoding="utf-8"))
    assert hybrid["n"] == 6
    # Random weights never end an answer, and half an answer is none: what matters is that the cloud was really asked.
    assert {row["error"] for row in hybrid["rows"]} <= {None, "EndpointResponseError"}
    assert hybrid["coverage"] + hybrid["cloud_fraction"] + hybrid["cloud_failures"] / 6 == 1
    assert (hybrid["bytes_sent"] > 0) == (hybrid["coverage"] < 1)
    assert len(hybrid["suggestions"]) == 6
    assert "<svg" in (run_directory / "report.html").read_text(encoding="utf-8")

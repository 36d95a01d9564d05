"""The check that a person runs on a Mac, here on an interpreter in the place of Core ML."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.coreml.mac import pretend_mac
from tests.export.models import m2m100, t5, write_checkpoint

from pocketseq.examples import Example
from pocketseq.manifest import Variant
from pocketseq.records import plain
from pocketseq.runtimes import open_runtime
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq_bench.coreml_check import UNITS, check_coreml, main
from pocketseq_export import export_checkpoint

ROWS = [Example(id=str(number), fields={"text": text}, target=text) for number, text in enumerate(("hello", "x = 1", "ab"))]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ``bundle`` for both runtimes, an ``onnx`` one for ONNX Runtime alone, and ``rows.jsonl``."""
    folder = tmp_path_factory.mktemp("check")
    write_checkpoint(folder / "checkpoint", t5())
    export_checkpoint(folder / "checkpoint", folder / "bundle", runtimes=["coreml", "onnx"], precisions=["fp32", "coreml/int8"])
    export_checkpoint(folder / "checkpoint", folder / "onnx", precisions=["fp32"])
    (folder / "rows.jsonl").write_text("".join(json.dumps(plain(row)) + "\n" for row in ROWS))
    return folder


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Mac whose caches are the test's own."""
    pretend_mac(monkeypatch, tmp_path)


def test_every_variant_is_checked_on_every_compute_unit(
    exported: Path, mac: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person gets a table, a program gets JSON with the machine, the hashes and the raw samples."""
    output = tmp_path / "found.json"
    main([str(exported / "bundle"), str(exported / "rows.jsonl"), "--warmup", "0", "-o", str(output)])
    found = json.loads(output.read_text())
    assert found["rows"] == 3
    assert found["macos"] == "15.1"
    assert found["coremltools"]
    assert found["environment"]
    variants = {variant["precision"]: variant for variant in found["variants"]}
    assert set(variants) == {"fp32", "int8"}
    assert variants["int8"]["baseline"]["variant"] == "onnx/fp32"
    assert [each["compute_units"] for each in variants["fp32"]["compute_units"]] == list(UNITS)
    for each in variants["fp32"]["compute_units"]:
        assert (each["agrees"], each["failure"], each["identical_generations"]) == (True, None, 1.0)
        assert each["max_abs_logit_difference"] < 1e-3
        assert len(each["latency_ms"]["samples"]) == 3
    assert "coreml/fp32            CPU_AND_NE      100.0%" in capsys.readouterr().out


def test_a_unit_that_fails_is_a_finding(
    exported: Path, mac: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are checked all the same, and the exit status says that not all is well."""
    from tests.coreml.mac import ModelProxy

    load = ModelProxy.__init__

    def refuse(self: ModelProxy, path: str, units: str, *rest: object) -> None:
        if units == "CPU_AND_NE":
            raise RuntimeError("ANE model load has failed")
        load(self, path, units, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelProxy, "__init__", refuse)
    output = tmp_path / "found.json"
    assert main([str(exported / "bundle"), str(exported / "rows.jsonl"), "--limit", "1", "--warmup", "0", "-o", str(output)]) == 1
    assert "CPU_AND_NE   did not run: RuntimeUnavailableError: " in capsys.readouterr().out
    (fp32,) = (each for each in json.loads(output.read_text())["variants"] if each["precision"] == "fp32")
    assert [each["agrees"] for each in fp32["compute_units"]] == [True, True, True, False]


def test_a_path_is_checked_whatever_bundles_the_package_has(
    exported: Path, mac: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package's own of the same name has no variant for Core ML, and would have failed on all units."""
    shutil.copytree(exported / "bundle", tmp_path / "python-fix")
    monkeypatch.chdir(tmp_path)
    found = check_coreml(Path("python-fix"), ROWS[:1], warmup=0)
    assert [each["failure"] for variant in found["variants"] for each in variant["compute_units"]] == [None] * 2 * len(UNITS)


def test_what_stands_before_every_answer_is_given_too(tmp_path: Path, mac: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log-probabilities are compared along the answers, and those go on from the prefix that the bundle forces."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", m2m100())
    export_checkpoint(checkpoint, tmp_path / "bundle", runtimes=["coreml", "onnx"], precisions=["fp32"])
    given: list[list[int]] = []
    step = OnnxRuntime.step

    def noted(self: OnnxRuntime, token_ids: Any, *rest: Any) -> Any:
        given.append(token_ids[0].tolist())
        return step(self, token_ids, *rest)

    monkeypatch.setattr(OnnxRuntime, "step", noted)
    check_coreml(tmp_path / "bundle", ROWS[:1], warmup=0)
    assert max(given, key=len)[:2] == [2, 7]


@pytest.mark.parametrize(
    ("place", "number", "difference", "failure"),
    [
        ((0, 0, 3), np.nan, None, "DataError: expected log-probabilities, found some that are no numbers"),
        ((..., 3), -3e4, pytest.approx(0, abs=0.1), None),
    ],
)
def test_a_difference_is_of_numbers_that_mean_something(
    place: Any, number: float, difference: Any, failure: str | None, exported: Path, mac: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no number is a failure; a token that neither would ever say is -1e9 in one format and -3e4 in the other."""

    def opened(bundle: Any, variant: Variant, **options: Any) -> Any:
        runtime = open_runtime(bundle, variant, **options)

        def step(*inputs: Any) -> Any:
            found = runtime.step(*inputs)
            logprobs = found.logprobs.copy()
            if variant.runtime == "coreml":
                logprobs[place] = number
            elif number == -3e4:
                logprobs[place] = -1e9
            return replace(found, logprobs=logprobs)

        return SimpleNamespace(encode=runtime.encode, start=runtime.start, step=step)

    monkeypatch.setattr("pocketseq_bench.coreml_check.open_runtime", opened)
    for each in check_coreml(exported / "bundle", ROWS[:1], warmup=0)["variants"][0]["compute_units"]:
        assert (each["max_abs_logit_difference"], each["failure"], each["agrees"]) == (difference, failure, failure is None)


@pytest.mark.parametrize(
    ("bundle", "message"), [("onnx", "expected a variant coreml, found onnx/fp32"), ("bundle", "run by Core ML")]
)
def test_what_cannot_be_checked_is_said(bundle: str, message: str, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle without Core ML variants, or a machine without Core ML, or less than one row: exit status 2 and what to do."""
    assert main([str(exported / bundle), str(exported / "rows.jsonl")]) == 2
    assert message in capsys.readouterr().err
    assert main([str(exported / bundle), str(exported / "rows.jsonl"), "--limit", "-1"]) == 2
    assert "error: --limit: expected a whole number from 1, found -1" in capsys.readouterr().err

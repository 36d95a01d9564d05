"""The check that a person runs on a Mac, here on an interpreter in the place of Core ML."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.coreml.mac import pretend_mac
from tests.export.models import t5, write_checkpoint

from pocketseq.examples import Example
from pocketseq.records import plain
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
    monkeypatch.setattr("pocketseq.runtimes.compiled.CACHES", tmp_path / "caches")
    pretend_mac(monkeypatch)


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


@pytest.mark.parametrize(
    ("bundle", "message"), [("onnx", "expected a variant coreml, found onnx/fp32"), ("bundle", "run by Core ML")]
)
def test_what_cannot_be_checked_is_said(bundle: str, message: str, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle without Core ML variants, or a machine without Core ML: exit status 2 and what to do."""
    assert main([str(exported / bundle), str(exported / "rows.jsonl")]) == 2
    assert message in capsys.readouterr().err

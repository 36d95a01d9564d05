"""Measuring the variants of a real bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketseq import read_examples
from pocketseq.cli import main
from pocketseq.errors import DataError, PocketSeqError
from pocketseq_bench.startup import measure_startup
from pocketseq_bench.variants import measure_bundle


def test_every_variant_is_measured_the_smallest_last(exported: Path) -> None:
    """Quality beside speed, with raw samples, sizes, the start of a fresh process and where it was measured."""
    rows = list(read_examples(exported / "data/test.jsonl"))[:5]
    measured = measure_bundle(exported / "bundle", rows, warmup=1)
    assert [variant["precision"] for variant in measured["variants"]] == ["fp32", "int8"]
    for variant in measured["variants"]:
        assert variant["n"] == len(variant["latency_ms"]["samples"]) == 5
        assert 0 <= variant["quality"]["exact_match"] <= 1
        assert variant["startup_ms"]["import_ms"] > 0
    assert measured["variants"][0]["size_bytes"] > measured["variants"][1]["size_bytes"]
    assert measured["environment"]["python"]


def test_no_rows_are_an_error(exported: Path) -> None:
    """A measurement of nothing is no measurement."""
    with pytest.raises(DataError, match="expected rows to measure on, found none"):
        measure_bundle(exported / "bundle", [], warmup=0)


def test_a_fresh_process_that_fails_says_why() -> None:
    """The error of the process is passed on."""
    with pytest.raises(PocketSeqError, match="BundleNotFoundError"):
        measure_startup("no-such-bundle", runtime="onnx", precision="int8", fields={"line": "x"}, repetitions=1)


def test_the_command_prints_a_table_and_writes_raw_samples(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``pocketseq bench`` is for people and for programs."""
    output = tmp_path / "bench.json"
    options = ["-o", str(output), "--limit", "2", "--warmup", "0"]
    assert main(["bench", str(exported / "bundle"), str(exported / "data/test.jsonl"), *options]) == 0
    assert "onnx/int8" in capsys.readouterr().out
    assert '"samples"' in output.read_text(encoding="utf-8")

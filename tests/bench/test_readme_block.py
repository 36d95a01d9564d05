"""The README's measured block, from a result file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.bench.benches import document, row

from pocketseq.errors import DataError
from pocketseq_bench.readme import (
    RIVALS,
    bench_block,
    models_block,
    place_of_rivals,
    read_results,
    results_block,
    rivals_block,
    with_block,
    write_results,
)
from pocketseq_bench.report import Findings
from pocketseq_bench.report.tables import check_table


def test_results_are_read_back_as_they_were_found(findings: Findings, tmp_path: Path) -> None:
    """The result file holds everything that a report is made of."""
    path = tmp_path / "tiny.json"
    write_results(path, findings)
    assert read_results(path) == findings


def test_the_block_is_a_table_and_where_it_was_measured(findings: Findings) -> None:
    """One row for what ships, and the machine."""
    lines = results_block(findings).splitlines()
    assert lines[3] == "| student-int8 (onnx, int8) | 6.0M | 6.5 | 71.0% | 68.0% | 4.0% | 20.0 | 30.0 |"
    assert "4 held-out rows, one thread of A <fast> processor with 2 logical cores" in lines[5]


def test_every_model_has_a_row_in_its_room(findings: Findings) -> None:
    """The teacher first, and last device and teacher together."""
    lines = models_block(findings).splitlines()
    assert lines[3].startswith("| teacher (pytorch, fp32) |")
    assert lines[5] == "| student-int8 (onnx, int8) | 6.0M | 6.5 | 71.0% | 68.0% | 4.0% | 20.0 | 30.0 |"
    assert lines[6] == "| hybrid, 50.0% from the cloud | | | 100.0% | | | 25.0 | 300 |"


def test_a_run_without_what_ships_has_no_block(findings: Findings) -> None:
    """The first screen never shows another model in its place."""
    with pytest.raises(DataError, match="expected a model for onnx in int8 among the results, found none"):
        results_block(replace(findings, models=findings.models[:1]))


def test_only_the_block_of_a_readme_changes(findings: Findings) -> None:
    """What people wrote around it stays, and a second time changes nothing."""
    readme = "# Title\n<!-- results:begin -->old<!-- results:end -->\nmore\n"
    once = with_block(readme, results_block(findings))
    assert once.startswith("# Title\n<!-- results:begin -->\n|")
    assert once.endswith("<!-- results:end -->\nmore\n")
    assert with_block(once, results_block(findings)) == once


def test_a_readme_without_a_block_is_refused() -> None:
    """The marks say where numbers belong."""
    with pytest.raises(DataError, match="expected a block between <!-- results:begin -->"):
        with_block("# Title\n", "<!-- results:begin -->\n<!-- results:end -->")


def test_a_result_file_of_another_format_is_refused(tmp_path: Path) -> None:
    """Numbers are never guessed out of an old file."""
    path = tmp_path / "old.json"
    path.write_text('{"format": 0}', encoding="utf-8")
    with pytest.raises(DataError, match="expected format 1"):
        read_results(path)


def test_a_benchmark_has_a_block_with_its_verdict() -> None:
    """The table of what was measured, on what, where, and how quiet it was."""
    lines = bench_block(document(row("int8", 5_400_000, 0.625, ms=10.0))).splitlines()
    assert lines[0] == "<!-- bench:begin -->"
    assert lines[3].startswith("| onnx/int8 | 5.4 | 62.5% | 10.0 | ±1.0% |")
    assert lines[5] == "4 inputs of `python-fix` on A <fast> processor (x86_64, Linux), Python 3.11.9. Quiet: all well."


def test_other_libraries_have_a_block_with_their_starts() -> None:
    """Tokens a second by task; nothing where the answers are others."""
    found = {
        "bundle": "tiny",
        "threads": 1,
        "rounds": 5,
        "environment": {"processor": "A processor", "machine": "x", "extensions": ["avx2"], "logical_cores": 2, "python": "3.11"},
        "tasks": [
            {
                "name": "greedy",
                "same_answers": {"pocketseq": 1.0, "other": 0.5, "alike": 0.95},
                "tokens_per_s": {"pocketseq": 1234.0, "alike": 617.0},
                "ours_over_theirs": {"alike": {"wall_s": 2.0, "cpu_s": 2.1}},
            }
        ],
        "start_s": {"pocketseq": {"median": 0.25}, "other": {"median": 1.0}},
        "excluded": {"third": "does not install"},
    }
    lines = rivals_block("rivals-avx2", found).splitlines()
    assert lines[0] == "<!-- rivals-avx2:begin -->"
    assert lines[3] == "| pocketseq | 1,234 (100.0%) |"
    assert lines[4] == "| other | – (50.0%) |"
    assert lines[5] == "| alike | 617 (95.0%), ours ×2.00 |"
    assert lines[7] == "- left out: third: does not install"
    assert "`tiny`, 1 thread, medians of 5 runs in turns on A processor with 2 logical cores (avx2), Python 3.11" in lines[9]
    assert lines[9].endswith("A fresh process to its first answer: pocketseq 0.25 s; other 1.00 s.")


@pytest.mark.parametrize(
    ("machine", "extensions", "block"),
    [
        ("x86_64", ["avx2", "avx512_vnni"], "rivals"),
        ("x86_64", ["avx2"], "rivals-avx2"),
        ("AMD64", ["avx2"], "rivals-avx2"),
        ("arm64", ["neon"], "rivals"),
    ],
)
def test_a_comparison_goes_where_its_processor_belongs(machine: str, extensions: list[str], block: str) -> None:
    """Where sums of int8 products would overflow, other kernels are timed."""
    assert place_of_rivals({"environment": {"machine": machine, "extensions": extensions}}) == RIVALS[block]


def test_what_is_no_table_of_results_is_refused() -> None:
    """Neither another document nor a later format is taken over."""
    for value in ({"format": 1, "models": []}, {"format": 2, "task": "", "models": [], "published": [], "claims": []}):
        with pytest.raises(
            DataError, match=r"run/table.json: expected a table of results of format 1.*run the stage 'table' again"
        ):
            check_table(value, "run/table.json")

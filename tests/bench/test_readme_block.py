"""The README's measured block, from a result file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.bench.benches import document, row

from pocketseq.errors import DataError
from pocketseq_bench.readme import (
    RIVALS,
    bench_block,
    main,
    models_block,
    place_of_rivals,
    read_results,
    results_block,
    rivals_block,
    summary_block,
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


def profile_of(findings: Findings, **changes: Any) -> dict[str, Any]:
    """What a block reads of a profile, measured on the same kind of processor where nothing is changed."""
    return {"floor_ms": {"pocketseq": 208.25}, "environment": {**findings.environment, **changes}}


def test_the_block_is_a_table_and_where_it_was_measured(findings: Findings) -> None:
    """One row for what ships, and the machine."""
    lines = results_block(findings, profile_of(findings)).splitlines()
    assert lines[3] == "| student-int8 (onnx, int8) | 6.0M | 6.5 | 71.0% | 68.0% | 4.0% | 20.0 | 30.0 |"
    assert "4 held-out rows, one thread of A <fast> processor with 2 logical cores" in lines[5]


def test_the_start_is_the_profile_s_and_says_where_it_was_measured(findings: Findings) -> None:
    """From nothing to the first answer, the interpreter's own start included."""
    alike = results_block(findings, profile_of(findings))
    assert "From nothing to the first answer in a fresh process, on the same kind of processor: 208 ms ([`profile.json`](" in alike
    other = results_block(findings, profile_of(findings, processor="Another", extensions=["avx2", "fma"]))
    assert "in a fresh process, on Another (avx2, fma): 208 ms" in other


def test_every_model_has_a_row_in_its_room(findings: Findings) -> None:
    """The teacher first, and last device and teacher together."""
    lines = models_block(findings).splitlines()
    assert lines[3].startswith("| teacher (pytorch, fp32) |")
    assert lines[5] == "| student-int8 (onnx, int8) | 6.0M | 6.5 | 71.0% | 68.0% | 4.0% | 20.0 | 30.0 |"
    assert lines[6] == (
        "| hybrid, 50.0% from the cloud, on 4 of the rows, where the device alone has 75.0% | | | 100.0% | | | 25.0 | 300 |"
    )


def test_a_run_without_what_ships_has_no_block(findings: Findings) -> None:
    """The first screen never shows another model in its place."""
    with pytest.raises(DataError, match="expected a model for onnx in int8 among the results, found none"):
        results_block(replace(findings, models=findings.models[:1]), profile_of(findings))


def test_only_the_block_of_a_readme_changes(findings: Findings) -> None:
    """What people wrote around it stays, and a second time changes nothing."""
    readme = "# Title\n<!-- results:begin -->old<!-- results:end -->\nmore\n"
    block = results_block(findings, profile_of(findings))
    once = with_block(readme, block)
    assert once.startswith("# Title\n<!-- results:begin -->\n|")
    assert once.endswith("<!-- results:end -->\nmore\n")
    assert with_block(once, block) == once


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
                "tokens": {"pocketseq": 100, "other": 100, "alike": 100},
                "runs": {
                    name: [{"wall_s": seconds * round_s, "cpu_s": seconds} for round_s in (1, 3)]
                    for name, seconds in (("pocketseq", 1), ("alike", 2))
                },
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
    assert lines[9].endswith(
        "± the farther end of their 95% interval. A fresh process to its first answer: pocketseq 0.25 s; other 1.00 s."
    )


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


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"format": 1, "bundle": "tiny", "environment": {"machine": "x86_64", "extensions": []}}, "found another document"),
        ({"tasks": [], "start_s": {}, "environment": {"machine": "x86_64"}}, r"found KeyError\('processor'\); measure it again"),
        ({"operators": {}}, "a result that a block can be made of, found KeyError"),
        ([], "found another document"),
    ],
)
def test_what_no_block_can_be_made_of_overwrites_nothing(
    value: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the SDK itself takes has an environment too, and is no comparison with other libraries."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "overhead.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(DataError, match=f"overhead.json: expected .*{message}"):
        main(["overhead.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["overhead.json"]


def test_what_is_no_table_of_results_is_refused() -> None:
    """Neither another document nor a later format is taken over."""
    later = {"format": 2, "recipe": "", "task": "", "models": [], "published": [], "claims": []}
    for value in ({"format": 1, "models": []}, later):
        with pytest.raises(
            DataError, match=r"run/table.json: expected a table of results of format 1.*run the stage 'table' again"
        ):
            check_table(value, "run/table.json")


def test_published_data_sets_have_a_row_each() -> None:
    """What ships beside the bar, its teacher and the plain student; what others have published nothing on is left out."""
    scores = {"teacher": 58.0, "student": 57.0, "student-int8": 57.5, "plain": 56.25}
    models = [
        {"name": name, "size_bytes": 4_780_000, "scores": [{"name": "bleu", "value": score}]} for name, score in scores.items()
    ]
    claims = [
        {"what": "BLEU of others", "wanted": "≥ 50", "found": "57.5"},
        {"what": "smaller than the teacher", "wanted": "≥ 8×", "found": "8.4×"},
    ]
    table = {"recipe": "a-task", "models": models, "claims": claims, "published": [{"system": "others", "scores": {"bleu": 50.0}}]}
    lines = summary_block([table, {**table, "published": []}]).splitlines()
    assert len(lines) == 5
    assert lines[3] == "| a-task | BLEU | ≥ 50 | **57.50** | 58.00 | 56.25 | 4.8 | 8.4× | – |"

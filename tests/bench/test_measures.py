"""A run is judged as its task is: by the published table, by likeness, or by what is right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketseq.errors import DataError
from pocketseq_bench.report import Findings, headline, read_findings, report_document, report_page, terminal_report
from pocketseq_bench.report.measures import hybrid_measure, measures_of


def scores(**values: tuple[float, str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": value, "low": value - 1, "high": value + 1, "better": better, "n": 1000}
        for name, (value, better) in values.items()
    ]


def model(name: str, runtime: str, precision: str, found: list[dict[str, Any]], ms: float) -> dict[str, Any]:
    training = None if runtime == "onnx" else {"seed": 0, "steps": 10, "minutes": 3.0, "threads": 1, "device": "A <processor>"}
    return {
        "name": name,
        "runtime": runtime,
        "precision": precision,
        "parameters": 8_000_000,
        "size_bytes": 32_000_000,
        "scores": found,
        "latency_ms": {"p50": ms, "p95": 2 * ms},
        "training": training,
    }


def table(teacher: list[dict[str, Any]], student: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": 1,
        "recipe": "published",
        "task": "published",
        "protocol": "as <others> do",
        "origin": "somewhere",
        "test_rows": 1000,
        "models": [model("teacher", "pytorch", "fp32", teacher, 60.0), model("student-int8", "onnx", "int8", student, 3.0)],
        "published": [{"system": "theirs", "scores": {teacher[0]["name"]: 41.0}, "note": ""}],
        "claims": [{"what": "size", "wanted": "≤ 8 MB", "found": "4 MB", "holds": True}],
    }


def judged(run: Path, task: str, value: dict[str, Any]) -> Findings:
    (run / "table.json").write_text(json.dumps(value), encoding="utf-8")
    return read_findings(run, recipe=task, task=task)


TRANSLATION = table(scores(bleu=(40.0, "higher")), scores(bleu=(38.0, "higher")))
WORDS = table(
    scores(wer=(47.0, "lower"), per=(13.0, "lower")),
    scores(wer=(48.06, "lower"), per=(14.0, "lower")),
)


def test_a_translation_is_judged_by_its_bleu(run_directory: Path) -> None:
    """In the sentence, on the page, in the printed table and in the document; that an answer parses as Python says nothing."""
    findings = judged(run_directory, "multi30k-en-de", TRANSLATION)
    assert headline(findings) == (
        "The int8 student keeps 95.0% of its teacher's BLEU (38.0 points for 40.0), takes 6.5 MB instead of 38.0 "
        "and answers 20.0 times as fast."
    )
    page = report_page(findings)
    assert "<h2>By the published protocol</h2>" in page
    assert "as &lt;others&gt; do" in page
    assert "38.0<small>[37.0, 39.0]</small>" in page
    assert "<tr><td>size</td><td>≤ 8 MB</td><td>4 MB</td><td>yes</td></tr>" in page
    assert "Parses" not in page
    assert terminal_report(findings).splitlines()[0].split()[2:] == ["BLEU", "edit", "similarity", "ms", "p50", "ms", "p95"]
    document = report_document(findings)
    assert document["rows"][2]["scores"][0] == {"name": "bleu", "value": 0.38, "better": "higher"}
    assert document["rows"][1]["scores"][0]["value"] is None  # the table has no row for this runtime
    assert document["table"]["published"][0]["scores"] == {"bleu": 41.0}


def test_of_errors_fewer_are_better(run_directory: Path) -> None:
    """What is kept is the share of words that are right: 51.94 of 53, not 48.06 of 47."""
    findings = judged(run_directory, "g2p-en-us", WORDS)
    assert headline(findings).startswith(
        "The int8 student keeps 98.0% of its teacher's right words, word errors 48.1% for 47.0%, takes 6.5 MB"
    )
    page = report_page(findings)
    assert "word errors, on the device alone; lower is better" in page
    assert "word errors (lower is better)" in page
    assert "word errors with the cloud asked for 50.0%, 25.0% without it on these 4 rows; lower is better" in page
    assert hybrid_measure(findings).name == "wer"
    assert report_document(findings)["hybrid"]["scores"] == [{"name": "wer", "value": 0.0, "better": "lower"}]


def test_a_task_of_ones_own_is_judged_by_what_its_training_was(findings: Findings) -> None:
    """ChrF decides where the recipe says so, for the hybrid too where it was measured."""
    quality = {"exact_match": 0.1, "edit_similarity": 0.6, "chrf": 0.5, "parses": 0.0, "repaired": 0.1, "false_alarms": None}
    models = tuple(replace(model, quality=quality) for model in findings.models)
    shown = tuple(replace(suggestion, line="what is asked in another tongue") for suggestion in findings.hybrid.suggestions)
    hybrid = replace(findings.hybrid, chrf=0.7, local_chrf=0.5, likeness=(0.9, 0.8, 0.6, 0.2), loss="chrf", suggestions=shown)
    own = replace(findings, task="own", judged_by="chrf", models=models, hybrid=hybrid)
    assert [measure.name for measure in measures_of(own)] == ["chrf", "exact_match", "edit_similarity"]
    page = report_page(own)
    assert "keeps 100.0% of its teacher&#x27;s chrF (50.0 points for 50.0)" in page
    assert "chrF with the cloud asked for 50.0%, 50.0 without it" in page
    assert "all served: 37.5% of chrF lost" in page
    assert "at most 10.0% of the chrF of the answers served locally is lost" in page
    assert "of chrF lost" not in report_page(replace(own, hybrid=replace(hybrid, loss="exact")))
    assert "What was asked and answered" in page
    assert "by chrF the device alone has 50.0 on them" in terminal_report(own)


def test_shares_of_other_rows_are_not_compared(findings: Findings) -> None:
    """A student that was measured on fewer rows than its teacher keeps no share of it."""
    models = (replace(findings.models[0], n=1000), *findings.models[1:])
    other = replace(findings, models=models)
    assert "keeps" not in headline(other)
    assert "pytorch, fp32, 1,000 rows" in report_page(other)


@pytest.mark.parametrize(
    "value", ["{", '{"format": 1}', '{"format": 1, "recipe": "", "task": "", "models": [], "published": [], "claims": []}']
)
def test_a_damaged_table_is_refused(run_directory: Path, value: str) -> None:
    """Better an error than a page that speaks of another measure."""
    (run_directory / "table.json").write_text(value, encoding="utf-8")
    with pytest.raises(DataError, match=r"table\.json: expected .*run the stage 'table' again"):
        read_findings(run_directory, recipe="tiny", task="multi30k-en-de")

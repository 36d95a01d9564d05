"""Reports: the document for programs, the page and the tables for people."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from pocketseq.checkpoint import weights_fingerprint
from pocketseq.errors import DataError
from pocketseq_bench.report import Findings, read_findings, report_document, report_page, terminal_report
from pocketseq_bench.report.plots import latency_plot, risk_coverage_plot


def test_the_document_has_the_promised_form(findings: Findings) -> None:
    """Programs may rely on every key, and on fractions in 0 to 1."""
    document = report_document(findings)
    assert list(document) == ["format", "task", "rows", "hybrid", "parity", "environment"]
    assert [row["name"] for row in document["rows"]] == ["teacher", "student", "student-int8"]
    assert document["rows"][2] == {
        "name": "student-int8",
        "runtime": "onnx",
        "precision": "int8",
        "parameters": 6_000_000,
        "size_bytes": 6_500_000,
        "exact_match": 0.71,
        "edit_similarity": 0.95,
        "parses": 0.98,
        "latency_ms": {"p50": 20.0, "p95": 30.0},
        "n": 4,
        "scores": [
            {"name": "exact_match", "value": 0.71, "better": "higher"},
            {"name": "edit_similarity", "value": 0.95, "better": "higher"},
            {"name": "parses", "value": 0.98, "better": "higher"},
            {"name": "repaired", "value": 0.68, "better": "higher"},
            {"name": "false_alarms", "value": 0.04, "better": "lower"},
        ],
    }
    promised = {"coverage": 0.5, "exact_match": 1.0, "cloud_fraction": 0.5, "threshold": 0.7}
    assert document["hybrid"] == promised | {"scores": [{"name": "exact_match", "value": 1.0, "better": "higher"}]}
    assert document["parity"][0] == {
        "runtime": "onnx",
        "precision": "fp32",
        "inputs": 200,
        "identical_generations": 0.995,
        "max_abs_logit_difference": 1e-4,
    }
    json.dumps(document, allow_nan=False)


def test_a_teacher_that_does_not_tell_its_size_has_a_row_all_the_same(findings: Findings) -> None:
    """Null and a dash where there is no number, and the reason; nothing is compared with what is not known."""
    unknown = {"parameters": None, "size_bytes": None, "p50_ms": None, "p95_ms": None, "n": 0}
    quality = dict.fromkeys(findings.models[0].quality)
    teacher = replace(findings.models[0], runtime="endpoint", quality=quality, note="it does not <tell>", **unknown)  # type: ignore[arg-type]
    hybrid = replace(findings.hybrid, note="the cloud is another model")
    untold = replace(findings, models=(teacher, *findings.models[1:]), hybrid=hybrid)
    row = report_document(untold)["rows"][0]
    assert (row["size_bytes"], row["exact_match"], row["note"]) == (None, None, "it does not <tell>")
    text = report_page(untold)
    assert "<h1>The int8 student takes 6.5 MB.</h1>" in text
    assert "Of the hybrid: the cloud is another model. Of the teacher: it does not &lt;tell&gt;." in text
    assert "teacher (endpoint)" in terminal_report(untold)


def test_the_page_says_no_more_of_its_rows_than_it_knows(findings: Findings) -> None:
    """They were held out; whether from files of their own depends on where the corpus came from."""
    text = report_page(findings)
    assert "Measured on 4 held-out rows. Times are for one suggestion" in text
    assert "training row" not in text


class Page(HTMLParser):
    """Notes what a page would load and whether its tags close."""

    VOID = frozenset({"meta", "link", "img", "br", "circle", "line", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [str(value) for name, value in attrs if name in {"src", "href", "srcset"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_needs_nothing_else(findings: Findings) -> None:
    """It loads nothing, its tags close, and it follows light and dark."""
    text = report_page(findings)
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.loads == []
    assert not re.search(r"url\(|@import|https?://", text)
    assert "prefers-color-scheme: dark" in text


def test_what_comes_from_data_is_escaped(findings: Findings) -> None:
    """A line of code with angle brackets is shown, not interpreted."""
    text = report_page(findings)
    assert "A &lt;fast&gt; processor" in text
    assert "x = &lt;1" in text.replace("<del>", "").replace("</del>", "")
    assert "x = <1" not in text


def test_the_page_shows_both_sources_and_an_answer_that_changed_nothing(findings: Findings) -> None:
    """A suggestion is read at a glance: where from, what changed, right or not."""
    text = report_page(findings)
    assert 'class="pill local"' in text
    assert 'class="pill cloud"' in text
    assert "<em>no change</em>" in text


def test_plots_are_well_formed_pictures_with_a_title(findings: Findings) -> None:
    """Each is one SVG that says in words what it shows."""
    for plot in (risk_coverage_plot(findings.hybrid), latency_plot(findings)):
        assert ET.fromstring(plot).get("aria-label")


def test_plots_stand_the_edges(findings: Findings) -> None:
    """Nothing served, everything right, a teacher that was not timed, one row."""
    hybrid = replace(findings.hybrid, coverage=0.0, threshold=None, risk=None, delta=None, correct=(True,), confidences=(0.5,))
    models = (replace(findings.models[0], p50_ms=None, p95_ms=None), *findings.models[1:])
    edge = replace(findings, hybrid=hybrid, models=models)
    ET.fromstring(risk_coverage_plot(hybrid))
    ET.fromstring(latency_plot(edge))
    assert "every suggestion asks the cloud" in report_page(edge)
    assert "–" in terminal_report(edge)


def test_the_terminal_shows_the_table_the_routes_and_the_suggestions(findings: Findings) -> None:
    """A person sees the whole result without leaving the terminal."""
    lines = terminal_report(findings).splitlines()
    assert lines[2].split() == ["teacher", "(pytorch)", "19.0M", "38.0", "74.0%", "97.0%", "99.0%", "70.0%", "3.0%", "150", "400"]
    assert lines[5].split() == ["hybrid", "100.0%", "25.0", "300"]
    assert "50.0% of 4 rows answered on the device, 50.0% from the cloud" in lines[6]
    assert lines[8].split() == ["local", "0.90", "x", "=", "<1"]
    assert lines[-1].strip() == "-> no change   (wrong, should be: x = 1)"


def test_a_missing_result_names_the_file(run_directory: Path) -> None:
    """Whoever runs the report too early learns what is not there yet."""
    (run_directory / "hybrid.json").unlink()
    with pytest.raises(DataError, match=r"hybrid\.json: expected the results of a stage, found none"):
        read_findings(run_directory, recipe="tiny", task="python-fix")


def test_a_result_without_a_value_is_refused(run_directory: Path) -> None:
    """Better an error than a report with holes."""
    (run_directory / "hybrid.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected the results of a finished run, found no 'runtime'"):
        read_findings(run_directory, recipe="tiny", task="python-fix")


GAP = {
    "rows": 40,
    "teacher": {"value": 0.7, "low": 0.6, "high": 0.8},
    "student": {"value": 0.6, "low": 0.5, "high": 0.7},
    "gap": {"value": 0.1, "low": 0.02, "high": 0.18},
    "findings": [
        {"cause": "capacity", "name": "8 rows", "lost": {"value": 0.05, "low": 0.01, "high": 0.09}, "rows": 8, "controls": "a < b"},
        {"cause": "quantization", "name": "no bundle", "lost": None, "rows": 0, "controls": "nothing exported"},
    ],
    "advice": "take a larger student",
    "note": "rows < 50 are few",
}


def weights_of(run_directory: Path) -> dict[str, str]:
    """Put weights into a run, and tell how a gap names them."""
    found = {}
    for name in ("teacher", "student"):
        (run_directory / name).mkdir(exist_ok=True)
        (run_directory / name / "model.safetensors").write_text(name)
        found[name] = weights_fingerprint(run_directory / name)
    return found


def test_the_gap_is_shown_where_it_was_measured(findings: Findings, run_directory: Path) -> None:
    """Causes with intervals and what to try next; a run that nobody asked shows nothing of it."""
    gap = GAP | {"weights": weights_of(run_directory)}
    (run_directory / "gap.json").write_text(json.dumps(gap))
    measured = read_findings(run_directory, recipe="tiny", task="python-fix")
    page = Page()
    text = report_page(measured)
    page.feed(text)
    assert page.open == []
    assert "5.0 [1.0, 9.0]" in text
    assert "a &lt; b" in text
    assert "Mind that rows &lt; 50 are few." in text
    assert "What to try next: take a larger student." in text
    assert report_document(measured)["gap"] == gap
    assert "Where quality was lost" not in report_page(findings)


def test_the_gap_of_an_earlier_student_is_left_out(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another training took its place, or the file is from before it told whose it is; the report says what to do."""
    earlier = GAP | {"weights": weights_of(run_directory)}
    (run_directory / "gap.json").write_text(json.dumps(earlier))
    (run_directory / "student" / "model.safetensors").write_text("trained anew")
    assert read_findings(run_directory, recipe="tiny", task="python-fix").gap is None
    told = "gap.json: left out of the report, as it is of another student; measure it again"
    assert told in capsys.readouterr().err
    (run_directory / "gap.json").write_text(json.dumps(GAP))
    assert read_findings(run_directory, recipe="tiny", task="python-fix").gap is None
    assert "gap.json: left out of the report, as it does not tell of which models it is" in capsys.readouterr().err


def test_a_damaged_gap_is_refused(run_directory: Path) -> None:
    """Better an error than half a table."""
    (run_directory / "gap.json").write_text('{"rows": 4}')
    with pytest.raises(DataError, match=r"gap\.json: expected what 'pocketseq gap' writes, found no 'findings'; measure it again"):
        read_findings(run_directory, recipe="tiny", task="python-fix")

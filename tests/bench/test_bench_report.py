"""A benchmark for people: the table, Markdown, and the page with its pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.bench.benches import DEVICE, document, row
from tests.bench.test_report import Page

from pocketseq.cli import main
from pocketseq.errors import DataError
from pocketseq_bench.document import BenchDocument, read_document, write_document
from pocketseq_bench.report import bench_markdown, bench_page, bench_table
from pocketseq_bench.report.bench_plots import device_plot, distribution_plot, stage_plot, start_plot
from pocketseq_bench.report.rivals import read_rivals
from pocketseq_bench.row import Relative, Sustained

GONE = row(
    "int4",
    3_000_000,
    0.0,
    status="unavailable",
    problem="needs the module 'ai_edge_litert'; mend it with: pip install \"pocketseq[litert]\"",
    runtime="tflite",
    **dict.fromkeys(("startup", "forced", "memory", "cpu_ms", "spread", "halves", "tokens")),
    stages_ms={},
    throughput=(),
    quality={},
)


@pytest.fixture
def bench() -> BenchDocument:
    """Two variants that were measured, one that could not be."""
    return document(row("fp32", 21_000_000, 0.63), row("int8", 5_400_000, 0.625, ms=10.0), GONE)


def test_the_table_has_a_row_for_each_variant_and_says_what_is_missing(bench: BenchDocument) -> None:
    """Size, quality, latency with its interval, start, memory and throughput side by side."""
    lines = bench_table(bench).splitlines()
    assert lines[3].split() == [
        *("onnx/int8", "5.4", "62.5%", "10.0", "±1.0%", "0.50", "±1.0%", "15.0", "15.0", "2.50", "175", "70", "120", "10.0"),
    ]
    assert lines[4] == f"tflite/int4: unavailable: {GONE.problem}"
    assert lines[6].startswith("A <fast> processor (x86_64, Linux): quiet")


def test_a_row_whose_time_was_up_says_how_far_it_came(bench: BenchDocument) -> None:
    """No interval is passed off as narrower than it is."""
    late = replace(bench, rows=(replace(bench.rows[0], stop="time", spread=0.08), *bench.rows[1:]))
    assert "time was up before the median was known within 3.0%: onnx/fp32" in bench_table(late)
    assert "onnx/fp32: the time was up at ±8.0%, before the median was known within 3.0%" in bench_markdown([late])


def test_quality_on_fewer_inputs_says_so_and_ships_nothing(bench: BenchDocument) -> None:
    """A share of sixteen inputs and one of all are not held against each other."""
    few = replace(bench.rows[1], quality_n=2, relative=Relative(None, "measured after onnx/fp32"))
    document = replace(bench, rows=(bench.rows[0], few))
    for told in (bench_table(document), bench_markdown([document]), bench_page([document])):
        assert "onnx/int8: its quality is that of 2 inputs, fewer than the others answered" in told
        assert "onnx/int8: no ratio: measured after onnx/fp32" in told
    assert "Of 4 inputs. On the line nothing smaller is as good: onnx/fp32. Left out, with fewer inputs: onnx/int8." in bench_page(
        [document]
    )
    assert "fewer" not in bench_page([bench])


def test_markdown_joins_devices_in_one_table(bench: BenchDocument) -> None:
    """A column for each, a dash where a configuration was not tried, its status where it failed."""
    other = replace(bench, device=replace(DEVICE, processor="Cortex-A76"), rows=(row("int8", 5_400_000, 0.625, ms=31.0), GONE))
    lines = bench_markdown([bench, other]).splitlines()
    assert lines[0] == "# python-fix (tiny): measured on 2 devices"
    assert lines[2:7] == [
        "| ms p50 | A <fast> processor (x86_64, Linux) | Cortex-A76 (x86_64, Linux) |",
        "|---|--:|--:|",
        "| onnx/fp32 | 20.0 | – |",
        "| onnx/int8 | 10.0 | 31.0 |",
        "| tflite/int4 | unavailable | unavailable |",
    ]
    alike = bench_markdown([bench, bench]).splitlines()
    assert alike[2] == "| ms p50 | A <fast> processor (x86_64, Linux), no. 1 | A <fast> processor (x86_64, Linux), no. 2 |"


def test_the_page_needs_nothing_else_and_escapes_what_it_shows(bench: BenchDocument) -> None:
    """One file, tags closed, nothing loaded; also for several devices, and where nothing could be measured."""
    for documents in ([bench], [bench, bench], [replace(bench, rows=(GONE,))]):
        text = bench_page(documents)
        page = Page()
        page.feed(text)
        assert page.open == []
        assert page.loads == []
        assert "A &lt;fast&gt; processor" in text
        assert "A <fast>" not in text


def test_a_benchmark_without_measurements_says_why(bench: BenchDocument) -> None:
    """The reasons are all that there is to read, on the page of one device and on that of several."""
    conduct = replace(bench.conduct, quiet=False, verdict="nothing was measured")
    empty = replace(bench, rows=(GONE,), conduct=conduct)
    for documents in ([empty], [empty, empty]):
        text = bench_page(documents)
        assert text.count("tflite/int4: unavailable: needs the module") == len(documents)
        assert "Devices side by side" not in text
    beside = bench_page([bench, empty])
    assert "Devices side by side" in beside
    assert "Noisy:" not in beside


def test_a_noisy_machine_is_said_first(bench: BenchDocument) -> None:
    """Nobody reads a number before its warning."""
    noisy = replace(bench, conduct=replace(bench.conduct, quiet=False, verdict="noisy: other programs used 40%"))
    text = bench_page([noisy])
    assert text.index("noisy: other programs used 40%") < text.index('class="tile"')


def test_a_start_that_was_not_measured_is_not_shown(bench: BenchDocument) -> None:
    """Neither as a number that is none, nor as an empty picture."""
    without = replace(bench, rows=tuple(replace(row, startup=None) for row in bench.rows))
    assert "import, load and first suggestion in a fresh process</span>" in bench_page([bench])
    assert "import, load and first suggestion in a fresh process</span>" not in bench_page([without])
    assert "– ms" not in bench_page([without])


def test_pictures_are_well_formed_and_say_what_they_show(bench: BenchDocument) -> None:
    """Distributions, stages and starts of every configuration that was measured; devices side by side."""
    rows = bench.rows[:2]
    for picture in (distribution_plot(rows), stage_plot(rows), start_plot(rows), device_plot([bench, bench])):
        root = ET.fromstring(picture)
        assert root.get("aria-label")
        assert {"onnx/fp32", "onnx/int8"} <= {element.text for element in root.iter()}


def test_a_stage_is_as_long_as_its_share(bench: BenchDocument) -> None:
    """Four stages of a quarter each take a quarter of the bar each."""
    widths = {float(part.get("width", 0)) for part in ET.fromstring(stage_plot(bench.rows[:1])).iter() if part.tag == "rect"}
    assert max(widths) - min(widths) < 0.1


def test_a_device_that_slows_down_is_told(bench: BenchDocument) -> None:
    """The last quarter of a sustained run against the first."""
    tired = replace(bench.rows[0], sustained=Sustained(5.0, 10.0, (20.0, 26.0), 1.3, bench.conduct.steal))
    assert "onnx/fp32, 5 min without a pause: the last quarter took 1.30 times as long" in bench_markdown(
        [replace(bench, rows=(tired,))]
    )


def test_other_libraries_are_shown_beside(bench: BenchDocument, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens a second where answers are the same, none where they are not, and who was left out for what reason."""
    rivals = {
        "tasks": [{"name": "greedy", "same_answers": {"pocketseq": 1.0, "other <1>": 0.4}, "tokens_per_s": {"pocketseq": 1234.5}}],
        "excluded": {"optimum-onnx": "does not install beside transformers 5"},
    }
    write_document(tmp_path / "a.json", bench)
    (tmp_path / "rivals.json").write_text(json.dumps(rivals), encoding="utf-8")
    paths = [str(tmp_path / "a.json"), "--rivals", str(tmp_path / "rivals.json"), "-o", str(tmp_path / "out")]
    assert main(["bench", "merge", *paths]) == 0
    capsys.readouterr()
    lines = (tmp_path / "out/bench.md").read_text(encoding="utf-8").splitlines()
    assert "| pocketseq | 1,234 (100.0%) |" in lines
    assert "| other <1> | – (40.0%) |" in lines
    assert "- left out: optimum-onnx: does not install beside transformers 5" in lines
    assert "other &lt;1&gt;" in (tmp_path / "out/bench.html").read_text(encoding="utf-8")
    assert read_document(tmp_path / "out/bench.json").rivals == rivals


def test_a_comparison_made_elsewhere_is_not_shown_beside(
    bench: BenchDocument, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another processor, or of another bundle; that of the same says where it was made, and need not tell of extensions."""
    here = {"processor": bench.device.processor, "machine": "x86_64", "extensions": list(bench.device.extensions)}
    write_document(tmp_path / "a.json", bench)
    paths = [str(tmp_path / "a.json"), "--rivals", str(tmp_path / "rivals.json"), "-o", str(tmp_path / "out")]
    for bundle, there, found in (
        ("tiny", here | {"extensions": ["avx2", "avx512_vnni"]}, "tiny on A <fast> processor (avx2, avx512_vnni)"),
        ("tiny", here | {"processor": "A slow one", "extensions": []}, "tiny on A slow one"),
        ("other", here, "other on A <fast> processor (avx2)"),
    ):
        (tmp_path / "rivals.json").write_text(json.dumps({"tasks": [], "bundle": bundle, "environment": there}), encoding="utf-8")
        assert main(["bench", "merge", *paths]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert (
            f"expected a comparison of tiny on A <fast> processor (avx2), as the first benchmark is, found one of {found};" in said
        )
        assert not (tmp_path / "out").exists()
    del here["extensions"]
    (tmp_path / "rivals.json").write_text(json.dumps({"tasks": [], "bundle": "tiny", "environment": here}), encoding="utf-8")
    assert main(["bench", "merge", *paths]) == 0
    assert "### Beside other libraries, on A <fast> processor\n" in (tmp_path / "out/bench.md").read_text(encoding="utf-8")
    assert "<h2>Beside other libraries, on A &lt;fast&gt; processor</h2>" in (tmp_path / "out/bench.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("others", [[{"name": "wide", "tasks": []}], [1], 1])
def test_a_broken_comparison_is_refused_before_anything_is_written(others: object, bench: BenchDocument, tmp_path: Path) -> None:
    """No bench.json of half a report is left."""
    write_document(tmp_path / "a.json", bench)
    (tmp_path / "rivals.json").write_text(json.dumps({"tasks": [], "others": others}), encoding="utf-8")
    with pytest.raises(DataError, match=r"rivals.json: expected a comparison .* no table can be made of .*; make it again"):
        read_rivals(tmp_path / "rivals.json")
    (tmp_path / "deep.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(DataError, match=r"deep.json: expected the JSON of a comparison with other libraries, found none"):
        read_rivals(tmp_path / "deep.json")
    paths = [str(tmp_path / "a.json"), "--rivals", str(tmp_path / "rivals.json"), "-o", str(tmp_path / "out")]
    assert main(["bench", "merge", *paths]) == 2
    assert not (tmp_path / "out").exists()

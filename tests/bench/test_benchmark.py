"""The benchmark itself, on a tiny real bundle of two variants, in real processes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.tiny import write_bundle

from pocketseq import Example
from pocketseq.bundle import open_bundle, write_manifest
from pocketseq.cli import main
from pocketseq.errors import DataError, InputError, VariantNotFoundError
from pocketseq.manifest import Variant
from pocketseq_bench.document import BenchDocument, read_document
from pocketseq_bench.measuring import BenchInputs, BenchSettings, default_inputs, read_inputs, run_bench
from pocketseq_bench.measuring import benchmark as benchmark_module
from pocketseq_bench.measuring.journal import NAME, Journal
from pocketseq_bench.measuring.plan import Plan

SETTINGS = BenchSettings(
    starts=1,
    cold_starts=1,
    warmup=1,
    turn_rows=4,
    least_rounds=2,
    passes=2,
    tolerance=10.0,
    batches=(1, 3),
    repeats=1,
    forced_tokens=5,
    sustained_minutes=0.005,
)
BRIEF = replace(SETTINGS, precisions=("half",), cold_starts=0, sustained_minutes=0.0)
ROWS = [Example(id=str(number), fields={"text": f"for i in range({number})"}, target=f"{number}") for number in range(6)]
INPUTS = BenchInputs.of_examples(ROWS, origin="rows")


def measure(bundle: Path, said: list[str] | None = None, **options: Any) -> BenchDocument:
    lines = [] if said is None else said
    return run_bench(bundle, **{"inputs": INPUTS, "settings": SETTINGS, "report": lines.append, **options})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants, not to be changed."""
    directory = tmp_path_factory.mktemp("bench") / "tiny"
    write_bundle(directory)
    return directory


@pytest.fixture(scope="module")
def directory(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measured once for all tests that only look; what the run noted on its way is kept."""
    directory = tmp_path_factory.mktemp("bench") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "remove", lambda _: None)
        measure(bundle, directory=directory)
    return directory


@pytest.fixture(scope="module")
def measured(directory: Path) -> BenchDocument:
    """The document of that run."""
    return read_document(directory / "bench.json")


def test_every_variant_is_measured_with_all_that_a_user_waits_for(measured: BenchDocument) -> None:
    """Start, cold start, stages, forced lengths, batches, memory, processor time and quality, with raw samples."""
    assert [row.label for row in measured.rows] == ["onnx/fp32", "onnx/half"]
    for row in measured.rows:
        assert row.status == "measured"
        assert row.startup is not None
        assert row.startup.import_ms.p50 > 0
        assert (row.cold is not None) == hasattr(os, "posix_fadvise")
        assert set(row.stages_ms) == {"total", "tokenize", "encode", "decode", "detokenize", "per_token"}
        total = row.stages_ms["total"]
        assert [len(turn) for turn in total.rounds] == [4, 2, 4, 2]
        assert total.low <= total.p50 <= total.high
        assert row.forced is not None
        assert row.forced.tokens == 5
        assert [found.batch for found in row.throughput] == [1, 3]
        assert row.memory is not None
        assert row.memory.peak_bytes.value is None or row.memory.peak_bytes.value >= (row.memory.loaded_bytes.value or 0)
        assert row.cpu_ms is not None
        assert row.quality_n == 6
        assert row.quality["exact_match"] == 0.0
        assert row.halves is not None
        assert row.relative.reason == "against onnx/fp32, by processor time"
        assert row.processor_ms is not None
        assert [len(turn) for turn in row.processor_ms.rounds] == [4, 2, 4, 2]
        assert row.stop == "precise"
        assert row.sustained is not None


def test_stages_add_up_to_the_whole(measured: BenchDocument) -> None:
    """Sample by sample: nothing of a suggestion's time goes uncounted but the call itself."""
    stages = measured.rows[0].stages_ms
    for number, total in enumerate(stages["total"].rounds[0]):
        parts = sum(stages[name].rounds[0][number] for name in ("tokenize", "encode", "decode", "detokenize"))
        assert parts <= total + 1e-3


def test_the_document_says_where_and_how_well_it_was_measured(measured: BenchDocument) -> None:
    """Device, bundle hash, inputs, the machine's conduct and what the harness costs."""
    assert measured.device.libraries["numpy"]
    assert len(measured.bundle.hash) == 16
    assert measured.inputs.n == 6
    assert measured.conduct.verdict.startswith("quiet" if measured.conduct.quiet else "noisy")
    assert measured.conduct.harness_overhead is not None
    assert measured.conduct.harness_overhead_at_most is not None
    assert measured.conduct.harness_overhead <= measured.conduct.harness_overhead_at_most
    assert measured.conduct.waited.value is not None
    assert len(measured.conduct.loop_ms.rounds) == 4
    unread = [
        reading
        for row in measured.rows
        for reading in (row.energy_mj, measured.conduct.before.temperature_c)
        if reading.value is None
    ]
    assert all(reading.reason for reading in unread)


def test_configurations_take_turns(directory: Path) -> None:
    """In each round all are asked the same inputs, another one first, so that a disturbance hits all alike."""
    entries = [json.loads(line) for line in (directory / NAME).read_text(encoding="utf-8").splitlines()[1:]]
    turns = [(entry["number"], entry["label"], tuple(entry["rows"])) for entry in entries if entry["kind"] == "turn"]
    assert [label for _, label, _ in turns[:4]] == ["onnx/fp32", "onnx/half", "onnx/half", "onnx/fp32"]
    for first, second in zip(turns[::2], turns[1::2], strict=True):
        assert (first[0], first[2]) == (second[0], second[2])
    asked = sorted(row for number, label, rows in turns if label == "onnx/half" and number < 2 for row in rows)
    assert asked == list(range(6))


def test_an_interrupted_run_keeps_what_was_measured_and_goes_on(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call repeats no start and no round of the first, and the partial file is gone at the end."""
    rounds = benchmark_module.measure_rounds

    def interrupt(bench: Any) -> None:
        rounds(bench)
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark_module, "measure_rounds", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measure(bundle, directory=tmp_path, settings=BRIEF)
    with (tmp_path / NAME).open("a", encoding="utf-8") as file:
        file.write('{"kind": "turn", "la')  # as a kill would leave it
    kept = [json.loads(line) for line in (tmp_path / NAME).read_text(encoding="utf-8").splitlines()[1:-1]]
    first = next(entry for entry in kept if entry["kind"] == "turn")
    monkeypatch.setattr(benchmark_module, "measure_rounds", rounds)
    said: list[str] = []
    document = measure(bundle, said, directory=tmp_path, settings=BRIEF)
    assert said[0] == f"going on after {len(kept)} measurements of an interrupted run"
    assert document.conduct.resumed
    row = document.row(first["label"])
    assert row is not None
    assert row.stages_ms["total"].rounds[0] == tuple(round(ms, 4) for ms in first["total"])
    assert read_document(tmp_path / "bench.json") == document
    assert not (tmp_path / NAME).exists()


def test_what_was_measured_otherwise_does_not_count(bundle: Path, tmp_path: Path) -> None:
    """Other inputs, another bundle or other settings start over."""
    plan = Plan.make(bundle, inputs=INPUTS, settings=SETTINGS)
    Journal(tmp_path, fingerprint=plan.fingerprint).add("turn", "onnx/half", 0, {"total": [1.0]})
    assert Journal(tmp_path, fingerprint=plan.fingerprint).has("turn", "onnx/half", 0)
    other = Plan.make(bundle, inputs=INPUTS, settings=BRIEF)
    assert Journal(tmp_path, fingerprint=other.fingerprint).resumed == 0
    assert other.fingerprint == Plan.make(bundle, inputs=INPUTS, settings=BRIEF).fingerprint


@pytest.fixture
def broken(bundle: Path, tmp_path: Path) -> Path:
    """A bundle with one variant of a runtime that nobody has, and one whose graph was tampered with."""
    directory = Path(shutil.copytree(bundle, tmp_path / "broken"))
    with open_bundle(directory) as opened:
        manifest = opened.manifest
    (directory / "onnx/half/step.onnx").write_bytes(b"no graph")
    variants = (*manifest.variants, Variant("unheard-of", "int8", manifest.variants[0].files))
    write_manifest(directory, replace(manifest, variants=variants))
    return directory


def test_a_runtime_that_is_not_there_and_a_variant_that_fails_have_rows_that_say_so(broken: Path) -> None:
    """With the way to mend it; the others go on."""
    rows = {row.label: row for row in measure(broken, settings=replace(SETTINGS, sustained_minutes=0.0, cold_starts=0)).rows}
    assert rows["onnx/fp32"].status == "measured"
    assert rows["onnx/half"].status == "failed"
    assert "BundleCorruptError" in rows["onnx/half"].problem
    assert rows["unheard-of/int8"].status == "unavailable"
    assert "pip install" in rows["unheard-of/int8"].problem
    assert rows["unheard-of/int8"].stages_ms == {}


DYING = """
import os, signal
import pocketseq_bench.worker as worker

turn, turns = worker.Subject.turn, []

def dying(self, rows, warmup):
    if self._variant["precision"] == "half" and warmup == 2:
        turns.append(rows)
        if len(turns) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return turn(self, rows, warmup)

worker.Subject.turn = dying
worker.main()
"""


def test_a_process_that_dies_leaves_a_row_and_the_others_go_on(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed as a system kills for memory, in the middle of its second turn; what it had measured by then stays."""
    monkeypatch.setattr("pocketseq_bench.measuring.processes.WORKER", ("-c", DYING))
    fp32, half = measure(bundle, settings=replace(SETTINGS, sustained_minutes=0.0, cold_starts=0)).rows
    assert fp32.status == "measured"
    assert fp32.forced is not None
    assert half.status == "crashed"
    assert "killed (SIGKILL), as a system does when memory runs out" in half.problem
    assert len(half.stages_ms["total"].rounds) == 1


def test_a_process_that_does_not_answer_is_ended(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hang costs its own row, not the run."""
    monkeypatch.setattr("pocketseq_bench.measuring.processes.WORKER", ("-c", "import time; time.sleep(600)"))
    document = measure(bundle, settings=replace(BRIEF, patience_s=0.5))
    assert {row.status for row in document.rows} == {"failed"}
    assert "expected an answer within 0 s, found none" in document.rows[0].problem


def test_a_path_is_measured_whatever_bundles_the_package_has(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may be called as one of them is; the text that is its name alone means the package's."""
    shutil.copytree(bundle, tmp_path / "python-fix")
    monkeypatch.chdir(tmp_path)
    (row,) = measure(Path("python-fix"), settings=BRIEF).rows
    assert (row.status, row.label) == ("measured", "onnx/half")
    assert Plan.make("python-fix", inputs=INPUTS, settings=SETTINGS).source == "python-fix"


def test_inputs_without_true_answers_are_timed_and_not_judged(tmp_path: Path, bundle: Path) -> None:
    """Quality is not made up."""
    path = tmp_path / "inputs.jsonl"
    path.write_text('{"fields": {"text": "import os"}}\n\n{"fields": {"text": "x"}, "note": "kept out"}\n', encoding="utf-8")
    inputs = read_inputs(path)
    assert not inputs.card.labelled
    (row,) = measure(bundle, inputs=inputs, settings=BRIEF).rows
    assert row.quality == {}
    assert row.stages_ms["total"].p50 > 0
    assert row.cold_reason == "no cold start was asked for"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found none"),
        ("[]", r"inputs.jsonl:1: expected an object with 'fields'"),
        ("{", r"inputs.jsonl:1: expected one JSON"),
        pytest.param("[" * 100_000, r"inputs.jsonl:1: expected one JSON", id="deep"),
    ],
)
def test_bad_inputs_are_refused_with_their_line(text: str, message: str, tmp_path: Path) -> None:
    """Before anything is measured."""
    path = tmp_path / "inputs.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_inputs(path)


def test_inputs_in_another_encoding_are_refused(tmp_path: Path) -> None:
    """With the byte, and what to do."""
    (tmp_path / "inputs.jsonl").write_bytes('{"fields": {"text": "é"}}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"inputs.jsonl: expected UTF-8, found .*0xe9.*; write the file again in that encoding"):
        read_inputs(tmp_path / "inputs.jsonl")


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"12", b"{}", b'{"kind": "turn", "label": "onnx/half", "number": null}', b'{"kind": "t']
)
def test_a_broken_line_of_a_partial_file_ends_what_counts(line: bytes, tmp_path: Path) -> None:
    """A kill or a disk may have left it: what stands before it stays, the rest is measured again, and the file is whole again."""
    journal = Journal(tmp_path, fingerprint="f")
    journal.add("turn", "onnx/half", 0, {"total": [1.0]})
    with (tmp_path / NAME).open("ab") as file:
        file.write(line + b"\n")
    journal.add("turn", "onnx/half", 1, {"total": [1.0]})
    again = Journal(tmp_path, fingerprint="f")
    assert (again.resumed, again.has("turn", "onnx/half", 0), again.has("turn", "onnx/half", 1)) == (1, True, False)
    again.add("turn", "onnx/half", 1, {"total": [1.0]})
    assert Journal(tmp_path, fingerprint="f").resumed == 2


def test_the_package_carries_inputs_for_its_own_bundle_only() -> None:
    """Held-out rows with true answers; another task needs a file."""
    inputs = default_inputs("python-fix")
    assert inputs.labelled
    assert len(inputs.rows) == 192
    with pytest.raises(DataError, match="expected --inputs FILE .* the package carries no inputs for the task 'poetry'"):
        default_inputs("poetry")


def test_a_variant_that_the_bundle_lacks_is_an_error(bundle: Path) -> None:
    """Asked for by name, it is not passed over; of the bundle in the package, where it can be had is told too."""
    with pytest.raises(VariantNotFoundError, match="expected variants with int3, found onnx/fp32, onnx/half"):
        measure(bundle, settings=replace(SETTINGS, precisions=("int3", "half")))
    with pytest.raises(VariantNotFoundError, match="expected variants with tflite, found onnx/int8; .*: pocketseq pack export/"):
        Plan.make("python-fix", inputs=INPUTS, settings=replace(SETTINGS, runtimes=("tflite",)))


def test_threads_are_configurations_of_their_own(bundle: Path) -> None:
    """Each number of threads has its row; all are held to the same processors, so that the rows can be compared."""
    plan = Plan.make(bundle, inputs=INPUTS, settings=replace(SETTINGS, threads=(1, 2), precisions=("half",)))
    assert [each.label for each in plan.configurations] == ["onnx/half", "onnx/half ×2"]
    one, two = (each.pinning.cores for each in plan.configurations)
    assert one == two
    assert len(one) in {0, 2}
    with pytest.raises(InputError, match="threads: expected whole numbers from 1"):
        BenchSettings(threads=(0,))


def test_the_command_writes_json_markdown_and_a_page(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``pocketseq bench`` is for people and for programs, and ``bench merge`` joins what it wrote."""
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text('{"fields": {"text": "import os"}, "target": "x"}\n', encoding="utf-8")
    output = tmp_path / "out"
    options = ["--quick", "--precisions", "half", "--inputs", str(inputs), "-o", str(output)]
    monkeypatch.setattr("pocketseq_bench.measuring.QUICK", BRIEF)
    assert main(["bench", str(bundle), *options]) == 0
    assert "onnx/half" in capsys.readouterr().out
    assert sorted(path.name for path in output.iterdir()) == ["bench.html", "bench.json", "bench.md"]
    result = str(output / "bench.json")
    assert main(["bench", "merge", result, result, "-o", str(tmp_path / "merged")]) == 0
    assert "| onnx/half |" in capsys.readouterr().out
    assert "Devices side by side" in (tmp_path / "merged/bench.html").read_text(encoding="utf-8")

"""The comparison with other libraries: ours as a real process, the arithmetic by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.export.models import t5, write_checkpoint
from tests.sdk.tiny import write_bundle

from pocketseq import Example, PocketModel
from pocketseq.errors import DataError, InputError, PocketSeqError
from pocketseq_bench.endless import open_endless
from pocketseq_bench.report.rivals import compiling, rivals_markdown, rivals_section
from pocketseq_bench.rivals import compare, field, write_table
from pocketseq_bench.rivals.contenders import CTRANSLATE2, OURS, TRANSFORMERS, TRANSFORMERS_COMPILED, Contender, Worker
from pocketseq_bench.rivals.tasks import Task, agreement, measure, turned

TEXTS = ("for i in range(10):", "return self._value + 1", "naïve café")
TASKS = (Task("greedy", rows=3), Task("forced", rows=2, tokens=9), Task("beam 2", rows=2, beam=2), Task("batch", rows=3, batch=3))


def examples(*texts: str) -> list[Example]:
    return [Example(id=str(number), fields={"text": text}, target="") for number, text in enumerate(texts)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rivals") / "tiny"
    write_bundle(directory, precisions=("int8",))
    return directory


@pytest.fixture(scope="module")
def found(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    absent = replace(CTRANSLATE2, modules=("no_such_module",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field, "CONTENDERS", (OURS, absent))
        directory = tmp_path_factory.mktemp("work")
        return compare(directory, bundle, examples(*TEXTS), directory=directory, rounds=1, tasks=TASKS)


def test_our_own_process_says_what_the_sdk_says(bundle: Path, found: dict[str, Any]) -> None:
    """Every task is answered, and its tokens are counted."""
    with PocketModel.load(bundle) as model:
        counted = sum(len(model.generate(text).tokens) for text in TEXTS)
    assert [task["name"] for task in found["tasks"]] == [task.name for task in TASKS]
    assert {task["name"]: task["tokens"][OURS.name] for task in found["tasks"]}["greedy"] == counted
    assert found["tasks"][1]["tokens"] == {OURS.name: 18}
    assert all(task["same_answers"] == {OURS.name: 1.0} for task in found["tasks"])
    assert found["drafts"]["same_answers"] == 1.0
    assert found["start_s"][OURS.name]["ours_over_theirs"]["value"] == 1
    assert found["serving_bytes"][OURS.name] > 0


def test_a_path_is_compared_whatever_bundles_the_package_has(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own of the same name has other fields, and its process would have failed."""
    shutil.copytree(bundle, tmp_path / "python-fix")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(field, "CONTENDERS", (OURS,))
    (task,) = compare(tmp_path, Path("python-fix"), examples(*TEXTS), directory=tmp_path, rounds=1, tasks=TASKS[:1])["tasks"]
    assert task["same_answers"] == {OURS.name: 1.0}


def test_a_forced_length_is_a_whole_answer(bundle: Path) -> None:
    """Of the fields of an input, with all that ``generate`` does; token ids, which the others never get, are not asked for."""
    settings = {"bundle": str(bundle), "threads": 1, "precision": "int8"}
    with Worker(OURS, settings) as worker, open_endless(bundle, precision="int8") as endless:
        forced = worker.ask([{"fields": {"text": text}} for text in TEXTS], tokens=9)
        assert forced["tokens"] == [list(endless.generate(text, max_new_tokens=9).tokens) for text in TEXTS]


def test_another_checkpoint_is_exported_and_stands_in_the_same_table(bundle: Path, tmp_path: Path) -> None:
    """With its own tasks, under its own name, width and layers; the pages show it too."""
    checkpoint = write_checkpoint(tmp_path / "wide", t5())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field, "CONTENDERS", (OURS,))
        given = examples("a text", "another")
        found = compare(tmp_path, bundle, given, directory=tmp_path, rounds=1, tasks=TASKS[:1], others=[checkpoint])
    (other,) = found["others"]
    assert (other["name"], other["encoder_layers"], other["decoder_layers"]) == ("wide", 2, 2)
    assert other["tasks"][0]["tokens_per_s"][OURS.name] > 0
    for page in (write_table(found), rivals_markdown(found), rivals_section(found)):
        assert f"wide, a model of width {other['d_model']}" in page or f"wide: width {other['d_model']}, 2 and 2 layers" in page


def test_bytecode_is_kept_whatever_the_environment_says(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start is that of an installed package, whose modules are compiled already."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    kept = tmp_path / "bytecode"
    settings = {"bundle": str(bundle), "threads": 1, "bytecode": str(kept), "precision": "int8"}
    with Worker(OURS, settings) as worker:
        worker.ask([{"fields": {"text": "x"}}])
    assert list(kept.rglob("pocketseq/model.*.pyc"))


def test_who_is_left_out_is_said(found: dict[str, Any]) -> None:
    """With the reason, in the result and in the table."""
    assert 'pip install "pocketseq[rivals]"' in found["excluded"]["ctranslate2"]
    assert "left out: optimum-onnx: does not install" in write_table(found)


def test_who_compiles_needs_a_compiler_and_says_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one it is left out; with one the time of compiling stands beside the times, none of which contains it."""
    monkeypatch.setenv("PATH", "")
    assert TRANSFORMERS_COMPILED.missing == ("a C++ compiler",)
    assert TRANSFORMERS.missing == ()
    assert compiling({"compile_s": {"transformers, compiled": 61.2}})[0].startswith("transformers, compiled: 61 s of compiling")


def test_who_cannot_read_the_checkpoint_is_left_out(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what its converter said; the others are compared."""
    unable = replace(CTRANSLATE2, modules=("ctranslate2",))
    monkeypatch.setattr(Contender, "missing", ())
    monkeypatch.setattr(field, "CONTENDERS", (OURS, unable))
    found = compare(tmp_path, bundle, examples(*TEXTS), directory=tmp_path, rounds=1, tasks=TASKS[:1])
    assert "expected a checkpoint that ctranslate2 converts, found: " in found["excluded"]["ctranslate2"]
    assert list(found["tasks"][0]["runs"]) == [OURS.name]


def test_a_table_quotes_no_time_of_other_answers() -> None:
    """But says how many were the same."""
    task = {
        "name": "greedy",
        "same_answers": {"pocketseq": 1.0, "other": 0.25},
        "tokens_per_s": {"pocketseq": 500.0},
        "ours_over_theirs": {},
    }
    result = {
        "bundle": "b",
        "threads": 1,
        "rounds": 5,
        "tasks": [task],
        "drafts": None,
        "excluded": {},
        "start_s": {"pocketseq": {"median": 0.5, "ours_over_theirs": {"value": 1.0, "low": 1.0, "high": 1.0}}},
        "serving_bytes": {"pocketseq": 8e7},
    }
    rows = write_table(result).splitlines()
    assert rows[3].split() == ["greedy", "pocketseq", "100%", "500"]
    assert rows[4].split()[:3] == ["greedy", "other", "25%"]
    assert rows[4].endswith("not quoted: other answers")


def test_answers_agree_up_to_their_lengths() -> None:
    """What is decoded past them counts nothing."""
    assert agreement([[1, 2, 3], [4]], [[1, 2, 9], [5]], [2, 1]) == 0.5


class Scripted:
    """A worker whose runs take what a list says, round by round; who ran when is noted."""

    def __init__(self, contender: Contender, seconds: list[float], ran: list[str]) -> None:
        self.contender, self._seconds, self._ran = contender, iter([0.0, *seconds]), ran  # the first run only compares answers

    def ask(self, rows: list[dict[str, Any]], **_: Any) -> dict[str, Any]:
        self._ran.append(self.contender.name)
        taken = next(self._seconds)
        return {"wall_s": taken, "cpu_s": taken, "tokens": [[1, 2] for _ in rows], "logprobs": []}


def test_another_one_goes_first_in_each_round_and_ratios_are_by_round() -> None:
    """A slow round of both leaves the ratio where it was, and the interval tells how it went from round to round."""
    ran: list[str] = []
    ours, theirs = Scripted(OURS, [1.0, 8.0, 1.0], ran), Scripted(CTRANSLATE2, [2.0, 16.0, 3.0], ran)
    workers = cast("list[Worker]", [ours, theirs])
    found = measure(Task("greedy", rows=1), workers, [{}], rounds=3, end_id=0, progress=lambda _: None)
    assert ran[2:] == ["pocketseq", "ctranslate2", "ctranslate2", "pocketseq", "pocketseq", "ctranslate2"]
    ratio = {"value": 2.0, "low": 2.0, "high": 3.0}
    assert found["ours_over_theirs"] == {"ctranslate2": {"wall_s": ratio, "cpu_s": ratio}}
    assert "ours ×2.00 ±50.0%" in rivals_markdown({"tasks": [found]})
    assert turned([], 3) == []


def test_what_an_earlier_version_timed_otherwise_is_left_out() -> None:
    """Forced lengths of the first format were other work for us than for the others; all else is told, from its raw runs."""
    runs = {"pocketseq": [{"wall_s": 1.0, "cpu_s": 1.0}] * 2, "other": [{"wall_s": 2.0, "cpu_s": 2.0}] * 2}
    common = {"same_answers": dict.fromkeys(runs, 1.0), "tokens_per_s": dict.fromkeys(runs, 5.0), "tokens": dict.fromkeys(runs, 5)}
    tasks = [
        {"name": "greedy", "forced_tokens": None, "runs": runs, "ours_over_theirs": {"other": {"wall_s": 7.0}}, **common},
        {"name": "greedy, 32 tokens", "forced_tokens": 32, "runs": runs, **common},
    ]
    wide = {"name": "wide", "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "tasks": tasks}
    for write in (rivals_markdown, rivals_section):
        former, present = (write({"format": number, "tasks": tasks, "others": [wide]}) for number in (1, 2))
        assert former.count("greedy, 32 tokens") == 1
        assert "left out: greedy, 32 tokens: an earlier version timed it without text and confidence where it was ours" in former
        assert former.count("ours ×2.00") == 2
        assert present.count("greedy, 32 tokens") == 2
        assert present.count("ours ×2.00") == 4


def test_no_round_is_no_comparison(tmp_path: Path) -> None:
    """Said before anything is converted."""
    with pytest.raises(InputError, match="expected at least one round and one thread, found 0 and 1"):
        compare(tmp_path, tmp_path, examples(*TEXTS), directory=tmp_path, rounds=0)


def test_a_process_that_fails_says_why(bundle: Path, tmp_path: Path) -> None:
    """With the end of what it wrote."""
    with Worker(OURS, {"bundle": str(tmp_path), "threads": 1}) as worker, pytest.raises(PocketSeqError, match="found exit code 1"):
        worker.ask([{"fields": {"text": "x"}}])


def test_inputs_that_no_one_reads_alike_are_refused(bundle: Path, tmp_path: Path) -> None:
    """A text over its budget is cut by us alone."""
    with pytest.raises(DataError, match="expected inputs that fit"):
        compare(tmp_path, bundle, examples("x = 1\n" * 200), directory=tmp_path)

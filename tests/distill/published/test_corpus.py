"""Corpora out of published data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import read_examples
from pocketseq_distill.published import PUBLISHED, PublishedSettings, build_published_corpus

from .data import pronunciations, publish


def test_rows_of_two_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every split is whole; every second row of the development set calibrates; all are shuffled."""
    pronunciations(tmp_path / "data", monkeypatch)
    corpus = build_published_corpus(tmp_path / "run", PublishedSettings(), task="g2p-en-us", data=tmp_path / "data")
    assert corpus.rows == {"train": 40, "validation": 3, "calibration": 3, "test": 8}
    rows = {split: list(read_examples(tmp_path / f"run/{split}.jsonl")) for split in corpus.rows}
    assert {row.source for row in rows["validation"]} == {"g2p-en-us/dev:1", "g2p-en-us/dev:3", "g2p-en-us/dev:5"}
    assert {row.source for row in rows["test"]} == {f"g2p-en-us/test:{number}" for number in range(1, 9)}
    for split in ("train", "test"):
        assert [row.source for row in rows[split]] != sorted(row.source for row in rows[split])
    (first,) = [row for row in rows["test"] if row.source == "g2p-en-us/test:1"]
    assert first.fields == {"word": "aababab"}
    assert first.target == "ɑ ɑ t͡ʃ ɑ t͡ʃ ɑ t͡ʃ"


def test_parallel_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Input and answer of each split lie in files of their own."""
    contents = {f"m/{part}.{side}": f"{part} {side} 1\n{part} {side} 2\n" for part in ("a", "b", "c") for side in ("en", "de")}
    publish(monkeypatch, tmp_path, like="multi30k-en-de", contents=contents)
    build_published_corpus(tmp_path / "run", PublishedSettings(), task="multi30k-en-de", data=tmp_path)
    (first, second) = sorted(read_examples(tmp_path / "run/test.jsonl"), key=lambda row: row.source)
    assert (first.fields, first.target) == ({"english": "c en 1"}, "c de 1")
    assert (second.fields, second.target) == ({"english": "c en 2"}, "c de 2")


def test_splits_by_the_order_of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pair of files holds all; what is told apart is rows that share a side with train, white space aside."""
    described = ["call f", "call g", "call h", "return", "pass", "raise", "dev 1", "dev 2", "call  f", "call k"]
    code = ["f ( )", "g ( )", "h ( )", "return", "pass", "raise", "d1", "d2", "f ( )", "k ( )"]
    contents = {"d/all.anno": "".join(f"  {line}\n" for line in described), "d/all.code": "".join(f"    {line}\n" for line in code)}
    publish(monkeypatch, tmp_path, like="django", contents=contents)
    build_published_corpus(tmp_path / "run", PublishedSettings(), task="django", data=tmp_path)
    rows = sorted(read_examples(tmp_path / "run/test.jsonl"), key=lambda row: row.source)
    assert [(row.target, row.kind) for row in rows] == [("f ( )", "seen"), ("k ( )", "clean")]
    assert json.loads((tmp_path / "run/corpus.json").read_text())["seen_in_train"] == {"validation": 0, "calibration": 0, "test": 1}


def test_a_quick_run_takes_some_rows_of_train_and_all_of_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score on part of a test set compares with nothing."""
    pronunciations(tmp_path / "data", monkeypatch)
    corpus = build_published_corpus(tmp_path / "run", PublishedSettings(train_rows=5), task="g2p-en-us", data=tmp_path / "data")
    assert (corpus.rows["train"], corpus.rows["test"]) == (5, 8)


@pytest.mark.parametrize("rows", [0, -5])
def test_a_train_split_of_nothing_is_refused(rows: int) -> None:
    """Below zero the last rows would be missing, and nobody would know."""
    with pytest.raises(RecipeError, match=rf"\[corpus\]: expected train_rows of 1 or more, found {rows}"):
        PublishedSettings(train_rows=rows)


def test_where_the_data_lie_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same data in another folder make the same corpus; another seed makes another."""
    fingerprints = []
    for name, seed in (("one", 0), ("other", 0), ("one", 1)):
        pronunciations(tmp_path / name, monkeypatch)
        settings = PublishedSettings(seed=seed)
        corpus = build_published_corpus(tmp_path / f"run-{name}-{seed}", settings, task="g2p-en-us", data=tmp_path / name)
        fingerprints.append(corpus.fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_splits_of_another_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is described wrongly is found at its first reading."""
    task = pronunciations(tmp_path, monkeypatch)
    monkeypatch.setitem(
        PUBLISHED, "g2p-en-us", type(task)(**{name: getattr(task, name) for name in task.__slots__} | {"rows": (39, 6, 8)})
    )
    with pytest.raises(DataError, match="expected 39 rows in train, found 40"):
        build_published_corpus(tmp_path / "run", PublishedSettings(), task="g2p-en-us", data=tmp_path)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_tasks_say_what_they_hold(name: str) -> None:
    """Files and splits agree in their rows, and each file is pinned by its content."""
    task = PUBLISHED[name]
    counted = {3: lambda rows: rows, 6: lambda rows: rows[::2], 2: lambda rows: (rows[0],)}[len(task.files)]
    assert sum(counted(tuple(file.rows for file in task.files))) == sum(task.rows)
    assert all(len(file.sha256) == 64 for file in task.files)
    assert len({file.sha256 for file in task.files}) == len(task.files)

"""The corpus: what rows are made, where they go, and that every run makes the same ones."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import Example, read_examples
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.corpus import TASKS, LibrarySettings, PairsSettings, build_library_corpus, build_pairs_corpus
from pocketseq_distill.corpus.lines import code_lines
from pocketseq_distill.corpus.sources import SPLITS, source_files, split_of
from pocketseq_distill.corpus.splits import surroundings, without_duplicates
from pocketseq_distill.corpus.vocabulary import train_tokenizer

SMALL = LibrarySettings(share=0.06, rows_per_file=60)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A python-fix corpus out of a few files of the standard library."""
    folder = tmp_path_factory.mktemp("corpus")
    build_library_corpus(folder, SMALL)
    return folder


def rows_of(folder: Path) -> dict[str, list[Example]]:
    return {split: list(read_examples(folder / f"{split}.jsonl")) for split in SPLITS}


def test_the_same_settings_give_the_same_corpus(corpus: Path, tmp_path: Path) -> None:
    """Two builds agree in every byte of every split and in the fingerprint."""
    again = build_library_corpus(tmp_path, SMALL)
    assert again.fingerprint == json.loads((corpus / "corpus.json").read_text())["fingerprint"]
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (corpus / f"{split}.jsonl").read_bytes()


def test_another_seed_gives_another_corpus(corpus: Path, tmp_path: Path) -> None:
    """The fingerprint tells corpora apart."""
    other = build_library_corpus(tmp_path, LibrarySettings(share=0.06, rows_per_file=60, seed=1))
    assert other.fingerprint != json.loads((corpus / "corpus.json").read_text())["fingerprint"]


def test_a_file_gives_rows_to_one_split_alone(corpus: Path) -> None:
    """Splitting is by file: no file is trained on and tested with."""
    homes: dict[str, set[str]] = {}
    for split, rows in rows_of(corpus).items():
        for row in rows:
            homes.setdefault(row.source.rpartition(":")[0], set()).add(split)
    assert all(splits == {split_of(file)} for file, splits in homes.items())
    assert {split for splits in homes.values() for split in splits} == set(SPLITS)


def test_code_that_was_copied_between_files_is_not_tested_with() -> None:
    """A held-out row whose line and neighbours stand in the train split goes, and is counted."""
    row = Example(id="1", fields={"before": "a\nx = 1", "line": "y = = 2", "after": "z"}, target="y = 2")
    copied = Example(id="2", fields={"before": "b\n  x  = 1", "line": "y 2", "after": "z\nmore"}, target="y = 2")
    unique, removed = without_duplicates({"train": [row], "validation": [], "calibration": [], "test": [copied]}, surroundings)
    assert unique == {"train": [row], "validation": [], "calibration": [], "test": []}
    assert removed["test"] == 1


def test_one_row_in_eight_has_nothing_wrong(corpus: Path) -> None:
    """Clean rows have their own line as the answer; all others differ from it."""
    rows = [row for split in rows_of(corpus).values() for row in split]
    clean = [row for row in rows if row.kind == "clean"]
    assert all((row.fields["line"] == row.target) == (row.kind == "clean") for row in rows)
    assert 0.10 < len(clean) / len(rows) < 0.17


def test_more_right_lines_can_be_trained_on_than_are_tested_with(tmp_path: Path) -> None:
    """``clean_share`` changes the train split alone."""
    build_library_corpus(tmp_path, replace(SMALL, clean_share=0.5))
    rows = rows_of(tmp_path)
    shares = {split: sum(row.kind == "clean" for row in rows[split]) / len(rows[split]) for split in ("train", "test")}
    assert 0.45 < shares["train"] < 0.55
    assert 0.06 < shares["test"] < 0.20


def test_more_rows_can_calibrate_than_test(corpus: Path, tmp_path: Path) -> None:
    """``calibration_rows`` bounds that split alone; the others hold what they held."""
    build_library_corpus(tmp_path, replace(SMALL, calibration_rows=7, held_out_rows=20))
    rows, before = rows_of(tmp_path), rows_of(corpus)
    assert [len(rows[split]) for split in ("calibration", "validation", "test")] == [7, 20, 20]
    assert rows["train"] == before["train"]


def test_every_kind_of_slip_occurs(corpus: Path) -> None:
    """The mix holds all kinds that people make."""
    kinds = Counter(row.kind for row in rows_of(corpus)["train"])
    assert set(kinds) == {
        "clean", "keyword", "name", "half_remembered", "bracket", "quote", "colon", "comma", "operator", "self", "equality",
    }  # fmt: skip


def test_an_answer_is_an_edit_that_the_template_reads_back(corpus: Path) -> None:
    """Target ids decode to the target for every row that the model can answer, which is nearly every row."""
    template = TASKS["python-fix"].template
    rows = rows_of(corpus)
    texts = (row.fields["before"] + row.target for row in rows["train"])
    tokenizer = TextTokenizer(train_tokenizer(texts, vocab_size=1024, template=template))
    expressible = 0
    for row in rows["validation"]:
        encoded = template.encode(tokenizer, row.fields)
        ids = template.encode_target(tokenizer, encoded, row.target)
        if ids is not None:
            expressible += 1
            assert template.decode(tokenizer, ids, encoded) == row.target
    assert expressible >= 0.97 * len(rows["validation"])


def test_python_line_asks_for_the_rest_of_the_line(tmp_path: Path) -> None:
    """The prefix at the end of ``before`` and the answer are the line as it stands in its file."""
    build_library_corpus(tmp_path, LibrarySettings(share=0.06, rows_per_file=10), task="python-line")
    texts = {file.name: file.text.split("\n") for file in source_files(share=0.06)}
    for row in rows_of(tmp_path)["test"]:
        name, _, number = row.source.rpartition(":")
        assert row.fields["before"].rpartition("\n")[2] + row.target == texts[name][int(number) - 1].rstrip()


@pytest.mark.parametrize("separator", ["\x0c", "#\x1c", "#\x85", "'\u2028'"])
def test_a_line_ends_where_python_ends_it(separator: str) -> None:
    """What Unicode counts as a line end stands inside a line, and moves the tokens of none after it."""
    text = f"import os\n{separator}\ndef found(name):\n    return 'a', name\n"
    lines = {line.number: line for line in code_lines(text)}
    assert [lines[number].text for number in (1, 3, 4)] == ["import os", "def found(name):", "    return 'a', name"]
    assert lines[3].before == f"import os\n{separator}"
    assert lines[3].after == "    return 'a', name"
    for line in lines.values():
        assert [line.text[token.start : token.stop] for token in line.tokens] == [token.text for token in line.tokens]


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    """The message names the tasks that there are."""
    with pytest.raises(RecipeError, match=r"expected a task among \['python-fix', 'python-line'\].*found 'cobol-fix'"):
        build_library_corpus(tmp_path, SMALL, task="cobol-fix")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"passes": 0}, "passes of 1 or more, found 0"),
        ({"train_rows": -1}, "train_rows of 1 or more, found -1"),
        ({"held_out_rows": -5}, "held_out_rows of 1 or more, found -5"),
        ({"calibration_rows": 0}, "calibration_rows of 1 or more, found 0"),
        ({"rows_per_file": -1}, "rows_per_file of 1 or more, found -1"),
        ({"clean_share": 7.0}, "clean_share from 0 to 1, found 7.0"),
        ({"share": 0.0}, "share above 0, up to 1, found 0.0"),
        ({"share": float("nan")}, "share above 0, up to 1, found nan"),
    ],
)
def test_settings_that_make_no_corpus_are_refused(given: dict[str, float], message: str) -> None:
    """Before the library is gone through, which takes minutes."""
    with pytest.raises(RecipeError, match=rf"\[corpus\]: expected {message}"):
        LibrarySettings(**given)  # type: ignore[arg-type]


def test_a_library_too_small_for_every_split_is_refused(tmp_path: Path) -> None:
    """What a promise or a score would rest on is missed when the corpus is made, not hours later."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "a.py").write_text("def found(name):\n    return name\n")
    with pytest.raises(
        DataError, match=r"found none for \['validation', 'calibration', 'test'\]; take a larger share of the files"
    ):
        build_library_corpus(tmp_path / "out", LibrarySettings(), library=library)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    """A link to nowhere, and a folder that is called like a file."""
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "there.py").write_text("x = 1\n")
    assert [file.name for file in source_files(tmp_path)] == ["there.py"]


def test_pairs_without_files_of_their_own_are_split_by_a_stable_hash(tmp_path: Path) -> None:
    """One file of pairs fills all four splits, the same ones every time."""
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps({"source": f"in {n}", "target": f"out {n}"}) + "\n" for n in range(400)))
    settings = PairsSettings(train=(str(source),))
    first = build_pairs_corpus(tmp_path / "a", settings, task="shout")
    second = build_pairs_corpus(tmp_path / "b", settings, task="shout")
    assert first.fingerprint == second.fingerprint
    assert sum(first.rows.values()) == 400
    assert first.rows["train"] > 300
    assert all(first.rows.values())


def test_an_input_with_two_answers_is_in_one_split(tmp_path: Path) -> None:
    """Half of the answers to a test input would otherwise be learnt; also where the splits have files of their own."""
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps({"source": f"in {n % 400}", "target": f"out {n}"}) + "\n" for n in range(800)))
    build_pairs_corpus(tmp_path / "one", PairsSettings(train=(str(source),)), task="shout")
    inputs = {split: {row.fields["text"] for row in rows} for split, rows in rows_of(tmp_path / "one").items()}
    assert sum(map(len, inputs.values())) == len(set().union(*inputs.values())) == 400
    test = tmp_path / "test.jsonl"
    test.write_text(
        json.dumps({"source": "in 7", "target": "another"}) + "\n" + json.dumps({"source": "new", "target": "b"}) + "\n"
    )
    build_pairs_corpus(tmp_path / "two", PairsSettings(train=(str(source),), test=(str(test),)), task="shout")
    assert [row.fields["text"] for row in rows_of(tmp_path / "two")["test"]] == ["new"]


def test_a_split_without_rows_is_refused(tmp_path: Path) -> None:
    """A corpus that could not be tested is not built."""
    source = tmp_path / "pairs.jsonl"
    source.write_text(json.dumps({"source": "a", "target": "b"}) + "\n")
    with pytest.raises(DataError, match="expected rows in every split, found none for"):
        build_pairs_corpus(tmp_path / "out", PairsSettings(train=(str(source),)), task="shout")


def pairs_file(path: Path, numbers: range) -> str:
    path.write_text("".join(json.dumps({"source": f"in {n}", "target": f"out {n}"}) + "\n" for n in numbers))
    return str(path)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"train": ()}, "expected a file of pairs as train"),
        ({"fields": {}}, "and a field at least, found none"),
        ({"max_source_tokens": 0}, "expected max_source_tokens of 1 or more, found 0"),
        ({"max_new_tokens": -1}, "expected max_new_tokens of 1 or more, found -1"),
    ],
)
def test_pairs_of_nothing_are_refused(wrong: dict[str, Any], words: str) -> None:
    """When the recipe is read, before any work."""
    with pytest.raises(RecipeError, match=words):
        PairsSettings(**{"train": ("pairs.csv",), **wrong})


@pytest.mark.parametrize(("others", "gone"), [(True, r"\['validation'\]"), (False, r"\['calibration', 'test'\]")])
def test_a_split_of_rows_that_are_all_in_another_is_refused(tmp_path: Path, others: bool, gone: str) -> None:
    """Nothing of it would be left, and the training would go on without validation, or promise without calibration."""
    train = pairs_file(tmp_path / "train.jsonl", range(400))
    calibration, test = (
        (pairs_file(tmp_path / f"{start}.jsonl", range(start, start + 10)),) if others else () for start in (500, 600)
    )
    settings = PairsSettings(train=(train,), validation=(train,), calibration=calibration, test=test)
    with pytest.raises(DataError, match=f"found none for {gone} that are not in a split before as well; give each split files"):
        build_pairs_corpus(tmp_path / "out", settings, task="shout")
    assert not (tmp_path / "out").exists()


def test_rows_that_are_left_out_as_duplicates_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By split; where there are none, nothing is said."""
    train = pairs_file(tmp_path / "train.jsonl", range(400))
    build_pairs_corpus(tmp_path / "whole", PairsSettings(train=(train,)), task="shout")
    assert not capsys.readouterr().err
    mixed = pairs_file(tmp_path / "mixed.jsonl", range(390, 410))
    corpus = build_pairs_corpus(tmp_path / "out", PairsSettings(train=(train,), test=(mixed,)), task="shout")
    assert corpus.rows["test"] == 10
    assert capsys.readouterr().err == "left out of the corpus as duplicates: 10 of 20 rows of test\n"

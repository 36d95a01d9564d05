"""Pairs from the files that people have; a bad row is an error with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketseq.errors import DataError
from pocketseq_distill.pairs import Columns, read_pairs

PAIRS = [("ein Haus", "a house"), ("zwei\tHäuser, „alt“", "two houses"), ('er sagt "ja"', "he says yes")]


def found(source: object, **settings: object) -> list[tuple[str, str]]:
    return [(row.fields["text"], row.target) for row in read_pairs(source, **settings)]  # type: ignore[arg-type]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_jsonl(tmp_path: Path) -> None:
    """One object a line, under the column names given."""
    path = write(tmp_path / "a.jsonl", '{"de": "ein Haus", "en": "a house", "more": 1}\n')
    assert found(path, columns=Columns(fields={"text": "de"}, target="en")) == PAIRS[:1]


def test_nested_columns(tmp_path: Path) -> None:
    """Translation data sets keep languages one level down."""
    path = write(tmp_path / "a.jsonl", '{"translation": {"de": "ein Haus", "en": "a house"}}\n')
    assert found(path, columns=Columns(fields={"text": "translation.de"}, target="translation.en")) == PAIRS[:1]


def test_a_dot_in_the_name_of_a_column(tmp_path: Path) -> None:
    """The column of that name comes before one that is nested."""
    columns = Columns(fields={"text": "text.de"}, target="text.en")
    assert found(write(tmp_path / "a.csv", "text.de,text.en\nein Haus,a house\n"), columns=columns) == PAIRS[:1]
    row = '{"text.de": "ein Haus", "text": {"de": "zwei", "en": "a house"}}\n'
    assert found(write(tmp_path / "a.jsonl", row), columns=columns) == PAIRS[:1]


def test_csv_with_a_mark_quotes_and_line_ends_of_windows(tmp_path: Path) -> None:
    """As spreadsheets write it."""
    text = '\ufeffsource,target\r\nein Haus,a house\r\n"zwei\tHäuser, „alt“",two houses\r\n"er sagt ""ja""",he says yes\r\n'
    assert found(write(tmp_path / "a.csv", text)) == PAIRS


def test_tsv(tmp_path: Path) -> None:
    """Tabs between the values."""
    assert found(write(tmp_path / "a.tsv", "source\ttarget\nein Haus\ta house\n")) == PAIRS[:1]


def test_columns_without_a_name(tmp_path: Path) -> None:
    """Spreadsheets leave some behind, and nobody can mean one of them."""
    assert found(write(tmp_path / "a.csv", "source,target,,\nein Haus,a house,,\n")) == PAIRS[:1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "\nsource,target\n\nein Haus,a house\n\n"),
        ("a.jsonl", '\n{"source": "ein Haus", "target": "a house"}\n \n'),
    ],
)
def test_blank_lines_are_passed_over(tmp_path: Path, name: str, content: str) -> None:
    """Many files end in one; lines are counted all the same."""
    (row,) = read_pairs(write(tmp_path / name, content))
    assert (row.fields["text"], row.target) == PAIRS[0]
    assert row.source.endswith(f"{name}:{4 if name == 'a.csv' else 2}")


def test_a_long_value(tmp_path: Path) -> None:
    """Longer than the csv module reads unless it is told to."""
    assert found(write(tmp_path / "a.csv", f"source,target\n{'x' * 200_000},b\n")) == [("x" * 200_000, "b")]


def test_kinds_of_files_in_capitals(tmp_path: Path) -> None:
    """As some systems write names."""
    assert found(write(tmp_path / "a.CSV", "source,target\nein Haus,a house\n")) == PAIRS[:1]
    assert found(write(tmp_path / "a.Tsv", "source\ttarget\nein Haus\ta house\n")) == PAIRS[:1]
    assert found(write(tmp_path / "a.JSONL", '{"source": "ein Haus", "target": "a house"}\n')) == PAIRS[:1]


def test_parquet(tmp_path: Path) -> None:
    """Rows are numbered from 1."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"source": [pair[0] for pair in PAIRS], "target": [pair[1] for pair in PAIRS]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert found(tmp_path / "a.parquet") == PAIRS
    parquet.write_table(pyarrow.table({"source": ["a", None], "target": ["b", "c"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: row 2: expected text in column 'source', found NoneType"):
        found(tmp_path / "b.parquet")


def test_two_text_files(tmp_path: Path) -> None:
    """A line of one belongs to the same line of the other; odd separators inside a line are part of it."""
    sources = write(tmp_path / "de", "ein\u2028Haus\nzwei\x0cHäuser\r\n")
    targets = write(tmp_path / "en", "a house\ntwo houses")
    assert found([sources, targets]) == [("ein\u2028Haus", "a house"), ("zwei\x0cHäuser", "two houses")]


def test_two_files_of_different_length(tmp_path: Path) -> None:
    """Both counts are in the message, and no pair is given."""
    sources, targets = write(tmp_path / "de", "a\nb\nc\n"), write(tmp_path / "en", "a\nb\n")
    with pytest.raises(DataError, match=r"expected as many lines in .*de as in .*en, found 3 and 2"):
        next(read_pairs([sources, targets]))


def test_a_data_set_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its folder here; a name on the hub goes the same way."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl", '{"source": "ein Haus", "target": "a house"}\n')
    assert found(f"datasets:{tmp_path / 'set'}") == PAIRS[:1]
    with pytest.raises(DataError, match="expected a data set with a split 'dev'"):
        found(f"datasets:{tmp_path / 'set'}", split="dev")


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set of two configurations, one of which names a picture that is not there."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "german.jsonl", '{"source": "ein Haus", "target": "a house"}\n')
    write(tmp_path / "set" / "seen.jsonl", '{"source": "a", "target": "b", "picture": "gone.png"}\n')
    card = """---
configs:
- config_name: german
  data_files: german.jsonl
- config_name: seen
  data_files: seen.jsonl
dataset_info:
- config_name: seen
  features:
  - {name: source, dtype: string}
  - {name: target, dtype: string}
  - {name: picture, dtype: image}
---
"""
    write(tmp_path / "set" / "README.md", card)
    return f"datasets:{tmp_path / 'set'}"


def test_a_configuration_of_a_data_set(configured: str) -> None:
    """Behind a colon; one that it does not have is named."""
    assert found(f"{configured}:german") == PAIRS[:1]
    with pytest.raises(DataError, match=r"set:french: expected a data set with a split 'train': .*german"):
        found(f"{configured}:french")


def test_a_row_of_a_data_set_that_cannot_be_read(configured: str) -> None:
    """Rows are decoded one after the other, long after the data set was found."""
    with pytest.raises(DataError, match=r"set:seen\[train\]: row 1: expected a row that can be read: "):
        found(f"{configured}:seen")


def test_only_the_primary_field_must_hold_text(tmp_path: Path) -> None:
    """No template takes a row without it; what stands beside it may be absent."""
    columns = Columns(fields={"text": "source", "before": "context"})
    path = write(tmp_path / "a.csv", "source,target,context\nein Haus,a house,\n")
    assert found(path, columns=columns) == PAIRS[:1]
    path = write(tmp_path / "b.csv", "source,target,context\nein Haus,a house,da\n ,a house,da\n")
    with pytest.raises(
        DataError, match=r"b\.csv:3: expected text in the primary field, the first of the columns \['source', 'context'\]"
    ):
        found(path, columns=columns)


def test_a_row_has_an_id_of_what_it_holds(tmp_path: Path) -> None:
    """The same pair has the same id wherever it stands, another pair another."""
    path = write(tmp_path / "a.tsv", "source\ttarget\na\tb\na\tc\na\tb\n")
    first, second, third = read_pairs(path)
    assert first.id == third.id != second.id
    assert first.source.endswith("a.tsv:2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"source": "a", "target": "b"}\n{"source": "a"\n', r"a\.jsonl:2: expected one JSON object a line"),
        pytest.param("a.jsonl", "[" * 100_000, r"a\.jsonl:1: expected one JSON object a line", id="deep"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected a JSON object, found list"),
        ("a.jsonl", '{"source": "a"}\n', r"a\.jsonl:1: expected a column 'target', found only \['source'\]"),
        ("a.jsonl", '{"source": 3, "target": "b"}\n', r"a\.jsonl:1: expected text in column 'source', found int: 3"),
        (
            "a.jsonl",
            '{"source": " ", "target": "b"}\n',
            r"a\.jsonl:1: expected text in the primary field, the first of .* \['source'\], found none",
        ),
        ("a.jsonl", '{"source": "\\ud800", "target": "b"}\n', r"a\.jsonl:1: expected Unicode text.* lone surrogate at character 0"),
        ("a.jsonl", b'{"source": "a", "target": "b"}\n"\xff"\n', r"a\.jsonl:2: expected UTF-8, found the byte 0xff"),
        ("a.csv", "source,target\na,b\na,b,c\n", r"a\.csv:3: expected 2 values, one for each of .*, found 3"),
        ("a.csv", 'source,target\n"a" x,b\n', r"a\.csv:2: expected well-formed CSV"),
        ("a.csv", "source,target,source\na,b,c\n", r"a\.csv:1: expected columns with names of their own.* \['source'\]"),
        ("a.csv", "", r"a\.csv:1: expected a header"),
        ("a.parquet", "no", r"a\.parquet: expected a Parquet file"),
        ("a.xlsx", "", r"a\.xlsx: expected a file of the kinds"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    """File and line, what was expected and what was found."""
    with pytest.raises(DataError, match=message):
        found(write(tmp_path / name, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Before anything is read."""
    with pytest.raises(DataError, match=r"no\.csv: expected a data file, found none that can be read"):
        found(tmp_path / "no.csv")

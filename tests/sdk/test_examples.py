"""Example rows: JSONL that comes back as it was written, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketseq.errors import DataError
from pocketseq.examples import Example, read_examples, write_examples

ROW = Example(id="1", fields={"line": "naïve\u2028 €"}, target="x\ny", kind="typo", source="a.py:3")


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Line separators inside a text included."""
    path = tmp_path / "deep" / "rows.jsonl"
    assert write_examples(path, [ROW, Example(id="2", fields={}, target="")]) == 2
    assert list(read_examples(path)) == [ROW, Example(id="2", fields={}, target="")]


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    """A failure on the way leaves the old file, and nothing beside it."""
    path = tmp_path / "rows.jsonl"
    write_examples(path, [ROW])

    def broken() -> object:
        yield ROW
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError, match="the source failed"):
        write_examples(path, broken())  # type: ignore[arg-type]
    assert list(read_examples(path)) == [ROW]
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_file_may_be_named_by_a_string(tmp_path: Path) -> None:
    """As by a path."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "1", "fields": {"text": "a"}, "target": "b"}\n', encoding="utf-8")
    assert list(read_examples(str(path))) == list(read_examples(path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "expected one JSON object a line"),
        ("[1]", "expected a JSON object, found list"),
        pytest.param("[" * 100_000, "expected one JSON object a line: maximum recursion depth", id="deep"),
        ('{"id": "1"}', "not an example row: expected 'id', 'fields' and 'target', perhaps 'kind' and 'source', found 'id'$"),
        ("{}", "not an example row: .*, found none$"),
        ('{"id": "1", "fields": {}, "target": "x", "extra": 1}', "not an example row"),
        ('{"id": 1, "fields": {}, "target": "x"}', "expected 'id' and 'target' as strings"),
        ('{"id": "1", "fields": {}, "target": "x", "kind": null}', "'kind' and 'source' too where they are given"),
        ('{"id": "1", "fields": {}, "target": "x", "source": 3}', "'kind' and 'source' too where they are given"),
        ('{"id": "1", "fields": {"a": 2}, "target": "x"}', "'fields' as an object of strings"),
        ('{"id": "1", "fields": ["a"], "target": "x"}', "'fields' as an object of strings"),
        ('{"id": "1", "fields": {"a": "cut \\ud83d"}, "target": "x"}', "field 'a': expected Unicode text, .* at character 4"),
        ('{"id": "1", "fields": {"a\\ud83d": ""}, "target": "x"}', "names of the fields: expected Unicode text"),
        ('{"id": "1", "fields": {}, "target": "\\ud83d"}', "target: expected Unicode text, found a lone surrogate at character 0"),
        ('{"id": "1", "fields": {}, "target": "", "kind": "\\udc00"}', "kind: expected Unicode text, found a lone surrogate"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    """The rows before it have been read."""
    path = tmp_path / "rows.jsonl"
    write_examples(path, [ROW])
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    rows = read_examples(path)
    assert next(rows) == ROW
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: .*{message}"):
        next(rows)


def test_a_byte_that_is_no_utf8_is_named_by_file_and_line(tmp_path: Path) -> None:
    """As any other bad row is; the rows before it have been read."""
    path = tmp_path / "rows.jsonl"
    write_examples(path, [ROW])
    with path.open("ab") as file:
        file.write('{"id": "2", "fields": {}, "target": "é"}\n'.encode("latin-1"))
    rows = read_examples(path)
    assert next(rows) == ROW
    with pytest.raises(DataError, match=r"rows\.jsonl:2: expected UTF-8, found the byte 0xe9"):
        next(rows)

"""The benchmark's document: written, read back, refused, and described by a schema."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from tests.bench.benches import document, row

from pocketseq.errors import DataError
from pocketseq.records import plain
from pocketseq_bench.document import read_document, write_document
from pocketseq_bench.schema import schema_of, schema_text
from pocketseq_bench.schema.generation import RECORDS

BENCH = document(row("fp32", 21_000_000, 0.63), row("int8", 5_400_000, 0.625))


def schema(name: str) -> dict[str, object]:
    return json.loads(files("pocketseq_bench").joinpath("schema", name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Samples included; what holds nothing else takes one line, whatever its words."""
    odd = replace(BENCH, made_at='two  spaces, "quotes", [brackets] {and}\nlines')
    write_document(tmp_path / "bench.json", odd)
    assert read_document(tmp_path / "bench.json") == odd
    text = (tmp_path / "bench.json").read_text(encoding="utf-8")
    assert "[20.0, 20.0, 30.0]" in text
    assert next(iter(json.loads(text))) == "format"


def test_what_is_written_fits_the_schema(tmp_path: Path) -> None:
    """The schema in the package is a valid one and describes the file."""
    write_document(tmp_path / "bench.json", BENCH)
    jsonschema.Draft202012Validator.check_schema(schema("bench-1.json"))
    jsonschema.Draft202012Validator(schema("bench-1.json")).validate(
        json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"rows": [{}]}, {"extra": 1}, {"made_at": 5}, {"bundle": None}],
    ids=["format", "row", "extra", "type", "null"],
)
def test_schema_and_reader_refuse_the_same(change: dict[str, object], tmp_path: Path) -> None:
    """A device without jsonschema is as strict as a test with it."""
    value = plain(BENCH) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema("bench-1.json")).validate(json.loads(json.dumps(value)))
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(DataError, match="expected"):
        read_document(path)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_the_schemas_in_the_package_are_those_of_the_records(name: str) -> None:
    """Mend a difference with ``python -m pocketseq_bench.schema``, and raise the format where old files no longer fit."""
    assert files("pocketseq_bench").joinpath("schema", name).read_text(encoding="utf-8") == schema_text(name, RECORDS[name])


def test_a_schema_says_what_a_field_means() -> None:
    """Units and reasons come from the docstrings."""
    reading = schema_of(RECORDS["bench-1.json"])["$defs"]["Reading"]
    assert "null where it cannot be read" in reading["properties"]["value"]["description"]
    assert reading["required"] == ["value"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected the JSON of a benchmark, found none"),
        pytest.param("[" * 100_000, "expected the JSON of a benchmark, found none", id="deep"),
        ('{"format": 1}', "found another document"),
        ('{"format": 7, "conduct": {}}', "expected a benchmark of format 1, found 7; update pocketseq"),
        ('{"format": 0, "conduct": {}}', "measure again with this pocketseq"),
    ],
)
def test_files_of_another_version_are_refused(text: str, message: str, tmp_path: Path) -> None:
    """Numbers are never guessed out of an old or a foreign file."""
    path = tmp_path / "bench.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_document(path)

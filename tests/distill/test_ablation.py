"""One setting at several values, the rest the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketseq.cli import main
from pocketseq.errors import RecipeError
from pocketseq.examples import write_examples
from pocketseq_distill.commands.ablate import read_setting

from .models import repair_examples

RECIPE = """
[recipe]
name = "tiny"
task = "repair"
format = 1

[student]
encoder_layers = 1

[train]
steps = 900
batch_size = 8
divergence = 1.0
max_minutes = 60
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Rows, held-out rows and a recipe."""
    write_examples(tmp_path / "rows.jsonl", repair_examples(24))
    write_examples(tmp_path / "held-out.jsonl", repair_examples(12, seed=1))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path


def ablate(files: Path, teacher: Path, vary: str) -> dict[str, object]:
    arguments = ["--validation", str(files / "held-out.jsonl"), "--recipe", str(files / "tiny.toml"), "--steps", "4"]
    output = files / "result.json"
    rows = str(files / "rows.jsonl")
    assert main(["ablate", str(teacher), rows, *arguments, "--vary", vary, "--validate-every", "2", "-o", str(output)]) == 0
    document: dict[str, object] = json.loads(output.read_text())
    return document


def test_starts_are_measured_side_by_side(files: Path, teacher_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A curve from the first update on, quality, confidence and what rounding leaves, each with its interval; no state stays."""
    document = ablate(files, teacher_path, "student.start=copied,random")
    assert document["setting"] == "student.start"
    copied, random = document["outcomes"]  # type: ignore[misc]
    assert (copied["value"], random["value"]) == ("copied", "random")
    for outcome in (copied, random):
        assert [point["step"] for point in outcome["curve"]] == [0, 2, 4]
        for name in ("exact_match", "int8_exact_match", "auroc", "deferral_area"):
            assert outcome[name]["low"] <= outcome[name]["value"] <= outcome[name]["high"]
    assert {path.name for path in files.iterdir()} == {"rows.jsonl", "held-out.jsonl", "tiny.toml", "result.json"}
    assert "random" in capsys.readouterr().out


def test_the_same_value_twice_gives_the_same_twice(files: Path, teacher_path: Path) -> None:
    """Seed, order and plan do not depend on the value's place."""
    one, other = ablate(files, teacher_path, "train.doubt=0.5,0.5")["outcomes"]  # type: ignore[misc]
    assert one == other


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.doubt=0.0,0.5", ("train.doubt", [0.0, 0.5])),
        ("student.start=copied,random", ("student.start", ["copied", "random"])),
        ("train.bf16=true,false", ("train.bf16", [True, False])),
    ],
)
def test_values_are_written_as_in_a_recipe(text: str, expected: tuple[str, list[object]]) -> None:
    """Bare words are strings."""
    assert read_setting(text) == expected


@pytest.mark.parametrize(
    ("text", "message"), [("train.doubt", "expected a setting and its values"), ("a.b=1..2", "as in a recipe")]
)
def test_what_is_no_setting_is_refused(text: str, message: str) -> None:
    """The error shows what one looks like."""
    with pytest.raises(RecipeError, match=message):
        read_setting(text)

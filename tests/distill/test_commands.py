"""The commands: the way from pairs to a student, as one types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pocketseq.checkpoint import CheckpointCard
from pocketseq.cli import main
from pocketseq.examples import write_examples
from pocketseq_distill.model_card import write_model_card

from .models import repair_examples

RECIPE = """
[recipe]
name = "tiny"
task = "repair"
format = 1
[filter]
wrong = "reference"
[student]
encoder_layers = 1
[train]
steps = 4
batch_size = 16
divergence = 1.0
validate_every = 2
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    write_examples(tmp_path / "rows.jsonl", repair_examples(24))
    return tmp_path / "rows.jsonl"


def test_label_train_and_evaluate(teacher_path: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command reads what the one before has written."""
    labels, student, recipe = tmp_path / "labels.jsonl", tmp_path / "student", tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    assert main(["label", str(teacher_path), str(rows), "-o", str(labels), "--rows", "20"]) == 0
    assert "20 rows labelled now, 20 in all" in capsys.readouterr().out
    train = ["train", str(teacher_path), str(rows), "-o", str(student), "--recipe", str(recipe), "--labels", str(labels)]
    assert main([*train, "--validation", str(rows), "--steps", "3"]) == 0
    output = capsys.readouterr().out
    assert "20 of 24 answers to learn from; removed: 4 unlabelled" in output
    assert f"{student}: 3 updates" in output
    assert main(["evaluate", str(student), str(rows), "-o", str(tmp_path / "student.json"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "student.json").read_text())
    assert len(written.pop("predictions")) == printed["n"] == 24
    assert written == printed


def test_distributions_and_labels_come_from_one_teacher(
    teacher_path: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels of a function teach alone, but not beside the distributions of another teacher."""
    labels, recipe = tmp_path / "labels.jsonl", tmp_path / "tiny.toml"
    assert main(["label", "tests.distill.labelling.answers:upper", str(rows), "-o", str(labels)]) == 0
    assert "24 rows labelled now" in capsys.readouterr().out
    recipe.write_text(RECIPE)
    train = ["train", str(teacher_path), str(rows), "-o", str(tmp_path / "student"), "--labels", str(labels), "--steps", "2"]
    assert main([*train, "--recipe", str(recipe)]) == 2
    assert "expected labels of the teacher" in capsys.readouterr().err
    recipe.write_text(RECIPE.replace("divergence = 1.0", "divergence = 0.0"))
    assert main([*train, "--recipe", str(recipe)]) == 0
    shown = capsys.readouterr()
    assert "24 of 24 answers to learn from; removed: none; 24 references stand in for answers" in shown.out
    assert f", not of {teacher_path} (" in shown.err
    recipe.write_text(RECIPE.replace("divergence = 1.0", "divergence = 0.0").replace('"reference"', '"drop"'))
    assert main([*train, "--recipe", str(recipe)]) == 2
    shown = capsys.readouterr()
    assert "0 of 24 answers to learn from; removed: 24 wrong" in shown.out
    assert "  wrong, such as row 0-0: '" in shown.err


@pytest.mark.parametrize("command", ["label", "train"])
def test_a_vocabulary_without_the_special_tokens_is_refused_at_once(
    command: str, teacher_path: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, before any progress is shown and a file is begun."""
    copy = shutil.copytree(teacher_path, tmp_path / "copy")
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "<after>"]
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    steps = ["--steps", "1"] if command == "train" else []
    assert main([command, str(copy), str(rows), "-o", str(tmp_path / "out.jsonl"), *steps]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"pocketseq: {copy}: expected the special tokens ['<after>'] of the input template")
    assert len(error.splitlines()) == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy", "rows.jsonl"]


def test_a_training_needs_a_length(teacher_path: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a recipe or from the words themselves."""
    assert main(["train", str(teacher_path), str(rows), "-o", str(tmp_path / "student")]) == 2
    assert "expected --recipe RECIPE, whose table [train] says how to train, or --steps N, found neither" in capsys.readouterr().err


def test_held_out_rows_may_be_pairs_and_their_lack_is_told(
    teacher_path: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are read as the others are; a recipe that validates, and has nothing to do it on, says so."""
    (tmp_path / "held-out.tsv").write_text("source\ttarget\nfor valu\tfor value\n")
    (tmp_path / "tiny.toml").write_text(RECIPE)
    given = ["train", str(teacher_path), str(rows), "--recipe", str(tmp_path / "tiny.toml"), "--steps", "2"]
    assert main([*given, "-o", str(tmp_path / "one"), "--validation", str(tmp_path / "held-out.tsv")]) == 0
    assert CheckpointCard.read(tmp_path / "one").training["validations"]
    assert "no --validation" not in capsys.readouterr().err
    assert main([*given, "-o", str(tmp_path / "other")]) == 0
    assert "no --validation: the student ends as its last update leaves it" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["run", "python-fix-demo"], ["gap", "run"]])
def test_what_several_processes_would_each_do_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under torchrun they would write the same files over one another."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(words) == 2
    assert f"expected one process for 'pocketseq {words[0]}', found 2 (WORLD_SIZE)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["ablate", "--rows", "-3"],
        ["ablate", "--seeds", "0"],
        ["ablate", "--steps", "0"],
        ["ablate", "--validate-every", "-3"],
        ["evaluate", "--rows", "0"],
        ["gap", "--rows", "0"],
        ["gap", "--updates", "0"],
        ["gap", "--subset", "-1"],
        ["gap", "--subset-updates", "0"],
        ["label", "--try", "-1"],
        ["label", "--rows", "0"],
        ["train", "--steps", "x"],
    ],
)
def test_counts_begin_at_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A number below drops no rows from the end, asks nobody for all rows but one, and measures nothing on nothing."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    _, option, number = words
    assert f"{option}: expected a whole number from 1, found '{number}'" in capsys.readouterr().err


def test_the_help_of_labelling_teaches_the_kinds_of_teachers(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with what one types."""
    with pytest.raises(SystemExit):
        main(["label", "--help"])
    shown = capsys.readouterr().out
    for words in ("package.module:function", "[teacher.endpoint]", "[teacher.causal]", "[teacher.ensemble]", "--dry-run", "--try"):
        assert words in shown


@pytest.mark.parametrize(
    ("command", "taught"),
    [
        ("ablate", ["with cloud ", "The first value is what the others are compared with", "goes on where it stopped"]),
        ("evaluate", ["data/test.jsonl", "data/train.jsonl were learnt", "--record"]),
        ("gap", ["what each cause costs", "trains copies of both", "RUN/gap.json"]),
    ],
)
def test_the_help_of_measuring_teaches_what_is_measured(
    command: str, taught: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And what one types."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    for words in (*taught, "examples:", f"  pocketseq {command} "):
        assert words in shown


def test_ordinary_pairs_fill_the_primary_field(teacher_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table or two text files, with the columns named; the table of results is for people."""
    (tmp_path / "pairs.csv").write_text("wrong,right\nfor valu,for value\n")
    columns = ["--source-column", "wrong", "--target-column", "right"]
    assert main(["evaluate", str(teacher_path), str(tmp_path / "pairs.csv"), *columns, "--latency-rows", "1"]) == 0
    output = capsys.readouterr().out
    assert "1 rows" in output
    assert "exact match" in output
    assert "p50" in output
    (tmp_path / "wrong.txt").write_text("for valu\n")
    (tmp_path / "right.txt").write_text("for value\n")
    assert main(["evaluate", str(teacher_path), str(tmp_path / "wrong.txt"), "--targets", str(tmp_path / "right.txt")]) == 0


def test_an_evaluation_is_recorded_in_the_checkpoint(
    teacher_path: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--record`` puts the figures on the card and a model card for people beside the weights, which names the rows."""
    copy = shutil.copytree(teacher_path, tmp_path / "copy")
    assert main(["evaluate", str(copy), str(rows), "--record", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert CheckpointCard.read(copy).metrics["exact_match"] == found["exact_match"]
    assert f"| answers that are exactly right | {100 * found['exact_match']:.1f}% |" in (copy / "README.md").read_text()
    assert "On 24 rows of `rows.jsonl`, answered greedily." in (copy / "README.md").read_text()
    card = CheckpointCard.read(copy)
    replace(card, metrics={name: value for name, value in card.metrics.items() if name != "data"}).write(copy)
    write_model_card(copy)
    assert "On 24 held-out rows, answered greedily." in (copy / "README.md").read_text()


@pytest.mark.parametrize("command", ["label", "train", "evaluate"])
def test_an_error_is_one_line(command: str, tmp_path: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that is no encoder-decoder: no traceback, exit code 2."""
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text('{"model_type": "gpt2"}')
    output = [] if command == "evaluate" else ["-o", str(tmp_path / "out")]
    assert main([command, str(tmp_path / "gpt"), str(rows), *output]) == 2
    error = capsys.readouterr().err
    assert "expected an encoder-decoder, found a model of type 'gpt2'" in error
    assert "Traceback" not in error


def test_rows_that_nest_too_deep_are_an_error_of_their_line(
    teacher_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether they are example rows or a table is asked of the first one, which cannot be read."""
    (tmp_path / "deep.jsonl").write_text("[" * 100_000, encoding="utf-8")
    assert main(["label", str(teacher_path), str(tmp_path / "deep.jsonl"), "-o", str(tmp_path / "labels.jsonl")]) == 2
    assert "deep.jsonl:1: expected one JSON object a line" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    """The modules of the commands load without torch and transformers."""
    code = (
        "import sys\n"
        "from pocketseq_distill.commands import evaluate, label, train\n"
        "import pocketseq_distill.stages\n"
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"

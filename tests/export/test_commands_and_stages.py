"""The room's sub-commands and its stages of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
from tests.export.models import t5, write_checkpoint

from pocketseq.bundle import open_bundle
from pocketseq.commands import Command
from pocketseq.errors import BundleError, DataError, RecipeError
from pocketseq.examples import Example, write_examples
from pocketseq.pipeline import Recipe
from pocketseq_export.commands import EXPORT, VERIFY
from pocketseq_export.selection import Limits
from pocketseq_export.stages import EXPORT as EXPORT_STAGE
from pocketseq_export.stages import VERIFY as VERIFY_STAGE
from pocketseq_export.stages import ExportSettings, VerifySettings


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """A run that has come as far as its student."""
    write_checkpoint(tmp_path / "student", t5())
    examples = [Example(id=str(number), fields={"text": f"line {number}"}, target="?") for number in range(9)]
    write_examples(tmp_path / "data" / "validation.jsonl", examples)
    return tmp_path


def invoke(command: Command, *words: object) -> int:
    parser = ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def labels(bundle: Path) -> list[str]:
    with open_bundle(bundle) as opened:
        return [variant.label for variant in opened.manifest.variants]


def recipe(tables: str = "") -> Recipe:
    return Recipe.parse(f'[recipe]\nname = "noise"\ntask = "noise"\nformat = 1\n{tables}', where="test")


def test_commands_import_nothing_heavy() -> None:
    """So that help comes at once, and comes without the extra too."""
    heavy = "{'torch', 'transformers', 'onnx', 'onnxruntime'}"
    code = f"import sys, pocketseq_export.commands, pocketseq_export.stages; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=None)
    assert found.stdout.strip() == "set()"


def test_export_and_verify_from_the_command_line(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle comes out, its files are checked, and its answers are compared."""
    student, bundle = run_directory / "student", run_directory / "made"
    assert invoke(EXPORT, student, "-o", bundle, "--to", "onnx", "--precision", "fp32") == 0
    assert capsys.readouterr().out == "onnx/fp32: 0.2 MB\n"
    assert invoke(VERIFY, bundle) == 0
    assert capsys.readouterr().out == "files are as the manifest says: onnx/fp32\n"
    data = run_directory / "data" / "validation.jsonl"
    assert invoke(VERIFY, bundle, "--checkpoint", student, "--data", data, "--rows", 4) == 0
    assert "onnx/fp32: 0.2 MB, 100.0% of 4 generations identical" in capsys.readouterr().out
    assert invoke(VERIFY, bundle, "--checkpoint", student, "--data", data, "--json") == 0
    assert json.loads(capsys.readouterr().out)["inputs"] == 9


def test_export_with_rows_chooses_by_measurement(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table from which was chosen is printed, or comes as JSON with all that was measured."""
    student, data = run_directory / "student", run_directory / "data" / "validation.jsonl"
    words = [student, "-o", run_directory / "made", "--precision", "fp32,fp16,int8", "--data", data, "--max-quality-drop", 1]
    assert invoke(EXPORT, *words) == 0
    *_, head, first, second, third = capsys.readouterr().out.splitlines()
    assert head.split() == ["variant", "MB", "exact", "match", "lost", "ms"]
    assert first.startswith("*  onnx/int8")
    assert first.endswith("the smallest within the limits")
    assert "larger than onnx/int8" in second
    assert "onnx/fp32" in third
    assert labels(run_directory / "made") == ["onnx/int8"]
    assert invoke(EXPORT, *words, "--prefer", "speed", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["selection"]["limits"]["prefer"] == "speed"
    chosen = [candidate["label"] for candidate in found["selection"]["candidates"] if candidate["chosen"]]
    assert labels(run_directory / "made") == chosen
    assert sorted(path.name for path in run_directory.iterdir()) == ["data", "made", "student"]


def test_nothing_is_chosen_without_rows(run_directory: Path) -> None:
    """By measurement means on rows."""
    with pytest.raises(DataError, match="expected --data with held-out rows, found none"):
        invoke(EXPORT, run_directory / "student", "-o", run_directory / "made", "--max-size-mb", 1)


def test_an_export_of_which_nothing_holds_leaves_nothing(run_directory: Path) -> None:
    """Neither a bundle nor a part of one."""
    student, data = run_directory / "student", run_directory / "data" / "validation.jsonl"
    with pytest.raises(BundleError, match=r"MB, more than 0\.0001"):
        invoke(EXPORT, student, "-o", run_directory / "made", "--data", data, "--max-size-mb", 0.0001)
    assert sorted(path.name for path in run_directory.iterdir()) == ["data", "student"]


def test_verify_needs_checkpoint_and_data_together(run_directory: Path) -> None:
    """One without the other compares nothing."""
    with pytest.raises(DataError, match="expected --checkpoint and --data together"):
        invoke(VERIFY, run_directory, "--checkpoint", run_directory / "student")
    with pytest.raises(DataError, match=r"rows\.jsonl: expected a file of rows, found none"):
        invoke(VERIFY, run_directory, "--checkpoint", run_directory / "student", "--data", run_directory / "rows.jsonl")


def test_stages_make_a_bundle_and_its_verification(run_directory: Path) -> None:
    """The bundle has the recipe's name; what was found stands beside it."""
    noise = recipe('[export]\nprecisions = ["fp32", "int8"]\n[verify]\nrows = 5\ntolerance = 1.0')
    EXPORT_STAGE.run(noise, run_directory)
    VERIFY_STAGE.run(noise, run_directory)
    with open_bundle(run_directory / "bundle") as bundle:
        assert bundle.manifest.name == "noise"
        assert all(variant.parity and variant.parity.inputs == 5 for variant in bundle.manifest.variants)
    report = json.loads((run_directory / "verification.json").read_text())
    assert (report["format"], report["inputs"], len(report["variants"])) == (1, 5, 2)


def test_a_recipe_can_choose(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With limits in its table; the choice stands in the report, for the page that draws it."""
    noise = recipe('[export]\nprecisions = ["fp32", "int8"]\n[verify]\ntolerance = 1.0\nmax_size_mb = 0.15\nallow_degraded = true')
    EXPORT_STAGE.run(noise, run_directory)
    VERIFY_STAGE.run(noise, run_directory)
    assert labels(run_directory / "bundle") == ["onnx/int8"]
    assert "0.2 MB, more than 0.15" in capsys.readouterr().err
    selection = json.loads((run_directory / "verification.json").read_text())["selection"]
    assert [(each["label"], each["chosen"]) for each in selection["candidates"]] == [("onnx/int8", True), ("onnx/fp32", False)]


def test_a_recipe_can_choose_by_a_preference_alone() -> None:
    """As on the command line: what is preferred, or any limit, chooses; without either all that hold are kept."""
    assert recipe().settings("verify", VerifySettings).limits is None
    assert recipe('[verify]\nprefer = "speed"').settings("verify", VerifySettings).limits == Limits(prefer="speed")
    assert recipe('[verify]\nprefer = "size"').settings("verify", VerifySettings).limits == Limits()
    assert recipe("[verify]\nmax_size_mb = 8").settings("verify", VerifySettings).limits == Limits(max_size_mb=8)


def test_a_variant_that_was_dropped_gets_a_new_trial(run_directory: Path) -> None:
    """Verification with other settings starts from all variants that the recipe asks for."""
    EXPORT_STAGE.run(recipe('[export]\nprecisions = ["fp32"]'), run_directory)
    assert labels(run_directory / "bundle") == ["onnx/fp32"]
    VERIFY_STAGE.run(recipe("[verify]\ntolerance = 1.0"), run_directory)
    assert labels(run_directory / "bundle") == ["onnx/int8", "onnx/fp32"]


def test_an_unknown_setting_is_refused(run_directory: Path) -> None:
    """By name, before any work."""
    with pytest.raises(RecipeError, match=r"\[export\].*'precision'"):
        EXPORT_STAGE.run(recipe('[export]\nprecision = "fp32"'), run_directory)
    EXPORT_STAGE.run(recipe(), run_directory)
    with pytest.raises(RecipeError, match="rows: expected at least 1, found 0"):
        VERIFY_STAGE.run(recipe("[verify]\nrows = 0"), run_directory)
    for text in ('runtimes = ["abacus"]', "runtimes = []", "precisions = []"):
        with pytest.raises(
            RecipeError, match=r"\[export\]: expected runtimes among \['onnx', 'tflite', 'coreml'\].*, found .*(abacus|none)"
        ):
            recipe(f"[export]\n{text}").settings("export", ExportSettings)

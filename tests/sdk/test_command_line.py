"""The command line: suggest, inspect, and how errors end."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pocketseq.bundle import open_bundle, write_manifest
from pocketseq.cli import main
from pocketseq.cli.entry import FAILED, INTERRUPTED
from pocketseq.commands import Command, command_targets, load_command
from pocketseq.errors import InputError, PocketSeqError
from pocketseq.manifest import Parity
from pocketseq.model import PocketModel
from pocketseq.pipeline.recipe import packaged_recipes


def pocketseq(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:  # of argparse
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_a_suggestion_is_all_that_is_printed(capsys: pytest.CaptureFixture[str], pristine_bundle: Path, model: PocketModel) -> None:
    """Where it comes from stands on standard error, so that the output can be piped."""
    code, out, err = pocketseq(capsys, "suggest", "--model", pristine_bundle, "for i in rnage(10)")
    assert (code, out) == (0, model.generate("for i in rnage(10)").text + "\n")
    assert err.startswith("[local; confidence 0.")


def test_json_holds_everything(capsys: pytest.CaptureFixture[str], pristine_bundle: Path, model: PocketModel) -> None:
    """Text, source, reason, receipt, and the local result with its tokens."""
    code, out, _ = pocketseq(capsys, "suggest", "--model", pristine_bundle, "--json", "x")
    found = json.loads(out)
    assert code == 0
    assert (found["text"], found["source"], found["input"]) == (model.generate("x").text, "local", "x")
    assert found["local"]["tokens"] == list(model.generate("x").tokens)
    assert found["receipt"]["bytes_sent"] == 0
    assert found["model"]["variant"] == "onnx/fp32"


@pytest.fixture
def source_file(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text("".join(f"line {number}\n" for number in range(1, 13)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "options", "before", "after"),
    [
        (8, [], "line 3\nline 4\nline 5\nline 6\nline 7", "line 9\nline 10"),
        (8, ["--before-lines", "2"], "line 6\nline 7", "line 9\nline 10"),
        (8, ["--before-lines", "0"], "", "line 9\nline 10"),
        (1, [], "", "line 2\nline 3"),
        (12, [], "line 7\nline 8\nline 9\nline 10\nline 11", ""),
    ],
)
def test_a_line_of_a_file_comes_with_the_lines_around_it(
    capsys: pytest.CaptureFixture[str],
    edits_bundle: Path,
    source_file: Path,
    line: int,
    options: list[str],
    before: str,
    after: str,
) -> None:
    """They fill the template's fields."""
    code, out, _ = pocketseq(capsys, "suggest", "--model", edits_bundle, "--json", "--file", source_file, "--line", line, *options)
    assert code == 0
    assert json.loads(out)["input"] == {"before": before, "line": f"line {line}", "after": after}


def test_lines_are_counted_as_editors_count_them(capsys: pytest.CaptureFixture[str], edits_bundle: Path, tmp_path: Path) -> None:
    """A form feed or a line separator within a line ends none; a carriage return before a line feed is part of the end."""
    file = tmp_path / "old.py"
    file.write_bytes("import os\r\n\x0c\r\nsaid = '\u2028'\r\nretrun said\r\n".encode())
    code, out, _ = pocketseq(capsys, "suggest", "--model", edits_bundle, "--json", "--file", file, "--line", 4)
    assert code == 0
    assert json.loads(out)["input"] == {"before": "import os\n\x0c\nsaid = '\u2028'", "line": "retrun said", "after": ""}
    code, _, err = pocketseq(capsys, "suggest", "--model", edits_bundle, "--file", file, "--line", 5)
    assert (code, "expected a line from 1 to 4, found 5" in err) == (FAILED, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["suggest", "--model", "BUNDLE", ""], "expected text in the field 'line', found none"),
        (["suggest", "--model", "BUNDLE"], "expected a TEXT or --file with --line, found neither"),
        (["suggest", "--model", "BUNDLE", "app.py", "--line", "1"], "--line: expected --file beside it, found the TEXT"),
        (["suggest", "--model", "BUNDLE", "x", "--file", "FILE"], "found both"),
        (["suggest", "--model", "BUNDLE", "--file", "FILE"], "--file: expected --line"),
        (["suggest", "--model", "BUNDLE", "--file", "FILE", "--line", "13"], "expected a line from 1 to 12, found 13"),
        (["suggest", "--model", "BUNDLE", "--file", "FILE", "--line", "0"], "found 0"),
        (["suggest", "--model", "BUNDLE", "--file", "nowhere.py", "--line", "1"], "nowhere.py: expected a text file in UTF-8"),
        (["suggest", "--model", "BUNDLE", "x", "--endpoint", "http://127.0.0.1:9"], "expected --endpoint-model"),
        (["suggest", "--model", "BUNDLE", "x", "--mode", "sometimes"], "mode: expected one of only_local"),
        (["suggest", "--model", "BUNDLE", "x", "--precision", "int4"], "expected a variant int4, found onnx/fp32"),
        (["suggest", "--model", "nowhere", "x"], "expected a bundle at 'nowhere', found nothing"),
        (["inspect", "nowhere"], "expected a bundle at 'nowhere', found nothing"),
        (["calibrate", "nowhere", "--data", "FILE"], "expected a bundle directory, found none"),
        (["calibrate", "BUNDLE", "--data", "nowhere"], "nowhere: expected a file of rows, found none"),
        (["calibrate", "BUNDLE", "--data", "FILE"], "app.py:1: expected one JSON object a line"),
        (["suggest", "--model", "BUNDLE", "--file", "nowhere.py", "--line", "1"], "found: No such file or directory"),
        (
            ["suggest", "--model", "BUNDLE", "--file", "FILE", "--line", "1", "--before-lines", "-1"],
            "at least 0, found -1",
        ),
        (["suggest", "--model", "BUNDLE", "x", "--runtime", "abacus"], "expected a variant abacus, found onnx/fp32"),
        (["sugest", "x"], "expected a command among suggest, inspect, calibrate"),
        (["sugest", "x"], "found 'sugest'; did you mean 'suggest'? pocketseq --help"),
        (["zzz"], "found 'zzz'; pocketseq --help"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], edits_bundle: Path, source_file: Path, words: list[str], message: str
) -> None:
    """Never a traceback for what the user can mend."""
    filled = [{"BUNDLE": str(edits_bundle), "FILE": str(source_file)}.get(word, word) for word in words]
    code, out, err = pocketseq(capsys, *filled)
    assert (code, out) == (FAILED, "")
    assert err.startswith("pocketseq: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_model_without_a_line_takes_no_file(capsys: pytest.CaptureFixture[str], pristine_bundle: Path, source_file: Path) -> None:
    """Its template has nowhere to put it."""
    code, _, err = pocketseq(capsys, "suggest", "--model", pristine_bundle, "--file", source_file, "--line", "1")
    assert code == FAILED
    assert "expected a model with a field 'line', found one with ['text']" in err


def test_a_dead_endpoint_leaves_the_local_answer(
    capsys: pytest.CaptureFixture[str], pristine_bundle: Path, model: PocketModel
) -> None:
    """The cloud being down is no error, and the reason says what happened."""
    words = ["--endpoint", "http://127.0.0.1:9/v1", "--endpoint-model", "m", "--mode", "prefer_cloud"]
    code, out, err = pocketseq(capsys, "suggest", "--model", pristine_bundle, "x", *words)
    assert (code, out) == (0, model.generate("x").text + "\n")
    assert "the local answer stands" in err


def test_inspect_tells_what_a_bundle_holds(capsys: pytest.CaptureFixture[str], edits_bundle: Path) -> None:
    """For people: the fields, the output form, each variant with hash and calibration."""
    code, out, _ = pocketseq(capsys, "inspect", edits_bundle)
    assert code == 0
    assert "every file is as the manifest says" in out
    assert "before (up to 16 tokens, cut on the left)" in out
    assert "an edit of 'line'" in out
    assert "onnx/fp32: " in out
    assert "calibration  none" in out


def test_inspect_names_what_a_verification_found(capsys: pytest.CaptureFixture[str], bundle_directory: Path) -> None:
    """Layers in a higher precision, losses that were accepted, variants that nobody could run; hashes and provenance too."""
    with open_bundle(bundle_directory) as bundle:
        manifest = bundle.manifest
    first, second = manifest.variants
    parity = Parity(inputs=500, identical_generations=0.95, max_abs_logit_difference=0.3, mean_abs_logit_difference=0.012)
    marked = replace(first, parity=parity, kept_layers=("encoder.layers.0.ffn.output",), degraded="exact match 0.4")
    provenance = {"architecture": "t5", "parameters": 6_300_000, "teacher": "codet5", "versions": {"export": {"onnx": "1.0"}}}
    variants = (marked, replace(second, parity=None, unchecked="needs a Mac"))
    write_manifest(bundle_directory, replace(manifest, variants=variants, provenance=provenance))
    _, out, _ = pocketseq(capsys, "inspect", bundle_directory)
    assert "made from 6.3M parameters, architecture t5, teacher codet5, exported with onnx 1.0" in out
    assert f"{first.files[0].path}: {first.files[0].size_bytes} bytes, sha256 {first.files[0].sha256}" in out
    assert f"tokenizer.json: 0.0 MB, sha256 {manifest.tokenizer.sha256}" in out
    assert "95.0% of 500 generations as the checkpoint's, log-probabilities within 0.3, 0.012 apart on average" in out
    assert "higher in encoder.layers.0.ffn.output" in out
    assert "degraded     exact match 0.4" in out
    assert "not checked  where it was verified: needs a Mac" in out


@pytest.mark.parametrize("versions", ["1.0", None, {"export": "1.0"}])
def test_inspect_reads_what_others_wrote_of_versions(
    capsys: pytest.CaptureFixture[str], bundle_directory: Path, versions: object
) -> None:
    """The provenance of a bundle is free: what is in no form that is known is left out."""
    with open_bundle(bundle_directory) as bundle:
        manifest = bundle.manifest
    write_manifest(bundle_directory, replace(manifest, provenance={"teacher": "codet5", "versions": versions}))
    code, out, _ = pocketseq(capsys, "inspect", bundle_directory)
    assert code == 0
    assert "made from teacher codet5\n" in out


def test_inspect_as_json_is_the_manifest(capsys: pytest.CaptureFixture[str], pristine_bundle: Path) -> None:
    """With each variant's hash and size beside it."""
    _, out, _ = pocketseq(capsys, "inspect", pristine_bundle, "--json")
    found = json.loads(out)
    with open_bundle(pristine_bundle) as bundle:
        manifest = bundle.manifest
    assert [entry.pop("hash") for entry in found["variants"]] == [variant.hash for variant in manifest.variants]
    assert [entry.pop("size_bytes") for entry in found["variants"]] == [variant.size_bytes for variant in manifest.variants]
    assert found == manifest.to_json()


def test_inspect_finds_damage_in_any_variant(capsys: pytest.CaptureFixture[str], bundle_directory: Path) -> None:
    """Also in one that this device would not run."""
    (bundle_directory / "onnx/half/step.onnx").write_bytes(b"")
    code, _, err = pocketseq(capsys, "inspect", bundle_directory)
    assert code == FAILED
    assert "onnx/half/step.onnx: expected" in err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """With no words at all, too."""
    _, out, _ = pocketseq(capsys, "--help")
    assert all(f"\n  {name} " in out for name in ("suggest", "inspect", "calibrate"))
    assert pocketseq(capsys)[1] == out


def test_help_of_run_names_the_recipes_that_are_installed(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody should have to mistype one to see them."""
    told = "".join(pocketseq(capsys, "run", "--help")[1].split())  # it breaks lines at hyphens too
    assert "python-fix" in packaged_recipes()
    assert all(name in told for name in packaged_recipes())


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """As of the installed distribution."""
    assert pocketseq(capsys, "--version")[1].startswith("pocketseq 0.")


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a command that does what a test wants."""

    def install(run: Any) -> None:
        module = ModuleType("command_of_a_test")
        module.COMMAND = Command(name="fake", summary="do", configure=lambda parser: None, run=run)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "command_of_a_test", module)
        monkeypatch.setattr("pocketseq.cli.entry.command_targets", lambda: {"fake": "command_of_a_test:COMMAND"})

    return install


def test_ctrl_c_is_exit_code_130(capsys: pytest.CaptureFixture[str], fake_command: Any) -> None:
    """Without a traceback."""

    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    fake_command(interrupted)
    code, _, err = pocketseq(capsys, "fake")
    assert (code, err) == (INTERRUPTED, "pocketseq: interrupted\n")


def test_a_place_that_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], fake_command: Any, pristine_bundle: Path, source_file: Path
) -> None:
    """A file where a folder should be, a full disk: named, without a traceback; what nobody can mend keeps its own."""
    code, _, err = pocketseq(capsys, "pack", pristine_bundle, "-o", source_file / "small" / "bundle")
    assert code == FAILED
    assert err.startswith(f"pocketseq: {source_file}")
    assert "expected a place that can be read and written, found: " in err
    assert err.count("\n") == 1

    def failing(number: int) -> Any:
        def run(args: object) -> int:
            raise OSError(number, "because")

        return run

    fake_command(failing(errno.ENOSPC))
    code, _, err = pocketseq(capsys, "fake")
    assert code == FAILED
    assert err.startswith("pocketseq: expected a place that can be read and written, found: because; ")
    fake_command(failing(errno.EIO))
    with pytest.raises(OSError, match="because"):
        pocketseq(capsys, "fake")


def test_libraries_keep_to_themselves_what_they_lack(
    capsys: pytest.CaptureFixture[str], fake_command: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What torchao or coremltools warn of as they are imported is nothing that who runs a command can mend; errors are told."""
    logger = logging.getLogger("torchao")
    caplog.set_level(logging.NOTSET, logger="torchao")  # and back, when the test ends

    def importing(args: object) -> int:
        logger.warning("Failed to load a part")
        logger.error("this matters")
        return 0

    fake_command(importing)
    assert pocketseq(capsys, "fake")[0] == 0
    assert caplog.messages == ["this matters"]


def test_what_a_command_lacks_ends_in_the_pip_line(capsys: pytest.CaptureFixture[str], fake_command: Any) -> None:
    """No traceback where an extra is missing; a library that is there and lacks a part is somebody's fault, and keeps its own."""

    def lacking(name: str) -> Any:
        def run(args: object) -> int:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return run

    fake_command(lacking("no_such_library.part"))
    code, _, err = pocketseq(capsys, "fake")
    assert code == FAILED
    assert err == (
        "pocketseq: this needs the module 'no_such_library', which is not installed; mend it with: pip install \"pocketseq[all]\"\n"
    )
    fake_command(lacking("json.no_such_part"))
    with pytest.raises(ModuleNotFoundError, match="no_such_part"):
        pocketseq(capsys, "fake")


def test_a_message_of_several_lines_is_one_line(capsys: pytest.CaptureFixture[str], fake_command: Any) -> None:
    """A log keeps one line for each error."""

    def failing(args: object) -> int:
        raise InputError("expected this\n  found that")

    fake_command(failing)
    assert pocketseq(capsys, "fake")[2] == "pocketseq: expected this found that\n"


def test_a_reader_that_has_seen_enough_is_no_error(pristine_bundle: Path) -> None:
    """As with `| head`."""
    command = [sys.executable, "-m", "pocketseq", "inspect", str(pristine_bundle), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


def test_the_sdk_s_commands_need_no_entry_point() -> None:
    """They come first, and each configures a parser."""
    targets = command_targets()
    assert list(targets)[:4] == ["suggest", "inspect", "calibrate", "pack"]
    for name in list(targets)[:4]:
        command = load_command(targets[name])
        assert command.name == name
        command.configure(ArgumentParser())


@pytest.mark.parametrize("target", ["no_such_module:COMMAND", "json:COMMAND", "json:dumps"])
def test_a_broken_entry_point_is_a_typed_error(target: str) -> None:
    """And does not break the other commands."""
    with pytest.raises(PocketSeqError, match=f"expected a command at '{target}'"):
        load_command(target)

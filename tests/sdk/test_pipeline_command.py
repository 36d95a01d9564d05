"""``pocketseq run``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pocketseq.cli import main
from pocketseq.pipeline import Recipe, find_stages


def test_an_unknown_recipe_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    """The line lists the recipes that there are."""
    assert main(["run", "no-such-recipe"]) == 2
    assert "'python-fix-quick'" in capsys.readouterr().err


def test_an_unknown_stage_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing has been written by then."""
    assert main(["run", "python-fix-quick", "-o", str(tmp_path / "run"), "--until", "lunch"]) == 2
    assert "found 'lunch'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_help_names_the_stages_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    """It loads none of them, so that it comes at once: what it says is held to what is installed here."""
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    told = capsys.readouterr().out
    (line,) = (line for line in told.splitlines() if line.startswith("  corpus "))
    plain = Recipe(name="a", task="a", description="", tables={}, text="")
    names, stages = [word.strip("[]") for word in line.split()], find_stages()
    assert set(line.split()) == {stage.name if stage.applies(plain) else f"[{stage.name}]" for stage in stages}
    assert all(names.index(earlier) < names.index(stage.name) for stage in stages for earlier in stage.after)
    assert "A stage that has finished is skipped" in told
    assert "python-fix-quick" in told


def test_ctrl_c_leaves_everything_resumable_and_exits_130(tmp_path: Path) -> None:
    """The stage that was interrupted is on record as started, so that the same command goes on from there."""
    command = [sys.executable, "-m", "pocketseq", "run", "python-fix-quick", "-o", str(tmp_path), "--until", "corpus"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "[1/1] corpus: started\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    # An interrupt in the middle of some imports makes Python itself end by the signal; a shell calls both 130.
    assert process.returncode in {130, -signal.SIGINT}
    assert "corpus: interrupted; the same command goes on from here" in errors
    state = json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))
    assert state["stages"]["corpus"]["seconds"] is None


def test_the_folder_of_data_comes_by_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A published task reads its files there, and says what it misses and where people get it, instead of downloading."""
    assert main(["run", "g2p-en-us", "-o", str(tmp_path / "run"), "--until", "corpus", "--data", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'g2p_eng_us/eng_us_train.tsv'}: expected a file of published data, found none" in told
    assert "get it from github.com/sigmorphon/2021-task1" in told

"""The deferral study: what a scorer gains, and how often a promise is kept on rows drawn from a known truth."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pocketseq
from pocketseq.calibration import Judged
from pocketseq.confidence import SCORERS, Evidence
from pocketseq.errors import RecipeError
from pocketseq.examples import Example, write_examples
from pocketseq_bench.deferral import deferral, kept
from pocketseq_bench.deferral.__main__ import main


def answers(rows: int, seed: int = 8) -> list[Judged]:
    """Long answers are wrong more often, which the sum of log-probabilities sees and their average does not."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(rows):
        surety, length = float(rng.uniform(0.6, 1)), int(rng.integers(1, 7))
        wrong = float(rng.uniform() > surety**length)
        found.append(Judged(str(number), wrong, Evidence((math.log(surety),) * length)))
    return found


def test_gains_are_relative_to_chow_average() -> None:
    """On the same resamplings, so that the interval of the ratio is far from nothing where the scorer is better."""
    found = deferral(answers(600), answers(400, seed=9), variant="v", data="d")
    assert found["chosen"] == "chow_sum"
    gain = found["gain_over_chow_average"]["chow_sum"]
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    areas = found["scorers"]
    assert gain["value"] == pytest.approx(areas["chow_sum"]["area"]["value"] / areas["chow_average"]["area"]["value"] - 1)
    assert found["rows"] == {"chose": 600, "tested": 400, "helped": 0}
    assert 0.9 < gain["a_tenth_better"] < 1
    assert gain["difference"]["value"] == pytest.approx(areas["chow_sum"]["area"]["value"] - areas["chow_average"]["area"]["value"])


def test_next_to_nothing_is_no_baseline() -> None:
    """Where Chow-Average gains nothing a ratio has no bounds, nor a value; the difference has, and tells who is ahead."""
    rows = [replace(answer, evidence=Evidence((-0.5, -1.5) if answer.loss else (-0.25, -1.75))) for answer in answers(300)]
    found = deferral(rows, rows, variant="v", data="d")
    gain = found["gain_over_chow_average"]["first_token"]
    assert (gain["value"], gain["low"], gain["high"]) == (None, None, None)
    assert 0 < gain["difference"]["low"] < gain["difference"]["value"] < gain["difference"]["high"]
    assert gain["a_tenth_better"] == 1.0


def test_the_promise_is_kept_on_answers_of_its_own() -> None:
    """In 95 of 100 resamplings or more, and not by serving nothing."""
    found = kept(answers(3000), SCORERS["chow_sum"], risk=0.2)
    assert found["kept"] >= 0.95
    assert found["served_something"] > 0.9
    assert 0.05 < found["mean_coverage"] < 0.5


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose bundle is the shipped one, without a student: its splits hold a few lines."""
    directory = tmp_path / "run"
    (directory / "data").mkdir(parents=True)
    (directory / "recipe.toml").write_text(
        '[recipe]\nname = "lines"\ntask = "python-fix"\nformat = 1\n[calibrate]\nrisk = 0.2\nseed = 3\n', encoding="utf-8"
    )
    (directory / "bundle").symlink_to(Path(pocketseq.__file__).parent / "bundles" / "python-fix")
    for split, first in (("train", 40), ("calibration", 0), ("test", 20)):
        lines = [f"value_{number} = retrun" for number in range(first, first + 12)]
        rows = [Example(id=line, fields={"before": "", "line": line, "after": ""}, target=line) for line in lines]
        write_examples(directory / "data" / f"{split}.jsonl", rows)
    return directory


def test_a_run_is_measured_and_kept_beside_others(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One split chooses, the other measures; what was in the file stays, and a line says what came of it."""
    output = tmp_path / "deferral.json"
    output.write_text(json.dumps({"format": 2, "runs": {"other": {"name": "other"}}}), encoding="utf-8")
    main([str(run), "--rows", "8", "--seen", "2", "-o", str(output)])
    found = json.loads(output.read_text(encoding="utf-8"))["runs"]
    assert set(found) == {"other", "lines"}
    (study,) = found["lines"]["clouds"].values()
    assert study["rows"] == {"chose": 8, "tested": 8, "helped": 0}
    assert [entry["risk"] for entry in study["promise"]] == [0.05, 0.1, 0.2]
    assert "lines, the cloud always right: " in capsys.readouterr().out


def test_a_directory_without_a_recipe_is_no_run(tmp_path: Path) -> None:
    """Before anything is loaded."""
    with pytest.raises(RecipeError, match="expected a recipe file at .*recipe.toml, found none"):
        main([str(tmp_path), "-o", str(tmp_path / "out.json")])

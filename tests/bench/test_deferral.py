"""The deferral study: what a scorer gains, and how often a promise is kept on rows drawn from a known truth."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pocketseq
from pocketseq.calibration import Judged
from pocketseq.confidence import SCORERS, Evidence
from pocketseq.errors import DataError, InputError, RecipeError
from pocketseq.examples import Example, write_examples
from pocketseq_bench.deferral import deferral, deferral_markdown, kept
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


def test_rows_below_none_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    """Of the splits, and of what models learnt from: the run is not even looked for."""
    for option, count, message in (("--rows", "0", "from 1, found 0"), ("--seen", "-1", "from 0, found -1")):
        with pytest.raises(InputError, match=f"{option[2:]}: expected a whole number {message}"):
            main([str(tmp_path / "no-run"), option, count, "-o", str(tmp_path / "out.json")])


def test_a_directory_without_a_recipe_is_no_run(tmp_path: Path) -> None:
    """Before anything is loaded."""
    with pytest.raises(RecipeError, match="expected a recipe file at .*recipe.toml, found none"):
        main([str(tmp_path), "-o", str(tmp_path / "out.json")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2, "ru', "expected the JSON of a deferral study, found none"),
        pytest.param("[" * 100_000, "expected the JSON of a deferral study, found none", id="deep"),
        ("[]", "found another document"),
        (
            '{"format": 1, "runs": {"old": {}}}',
            "expected a deferral study of format 2, found 1; measure its runs again into another",
        ),
    ],
)
def test_a_file_that_cannot_be_added_to_is_refused_before_anything_is_measured(text: str, message: str, tmp_path: Path) -> None:
    """Minutes of measuring are not lost, nor what the file holds of other runs: the run is not even looked for."""
    (tmp_path / "out.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"out.json: .*{message}"):
        main([str(tmp_path / "no-run"), "-o", str(tmp_path / "out.json")])
    assert (tmp_path / "out.json").read_text(encoding="utf-8") == text


def gained(value: float, *, bounded: bool = True) -> dict[str, Any]:
    relative = (
        {"value": 100 * value, "low": 50 * value, "high": 200 * value} if bounded else dict.fromkeys(("value", "low", "high"))
    )
    return {**relative, "difference": {"value": value, "low": value / 2, "high": 2 * value}}


def test_the_table_tells_what_the_choice_costs() -> None:
    """The one that was chosen, the one that gained most where that is another, and the baseline, each with what it serves."""
    scorers = {"learned": {"coverage": 0.0}, "chow_sum": {"coverage": 0.25}, "chow_average": {"coverage": 0.5}}
    study = {
        "rows": {"chose": 1000, "tested": 2000},
        "base_risk": 0.4,
        "cloud_risk": 0.3,
        "chosen": "learned",
        "risk": 0.2,
        "gain_over_chow_average": {"learned": gained(0.001), "chow_sum": gained(0.002)},
        "scorers": scorers,
        "promise": [
            {"risk": risk, "delta": 0.05, "resamplings": 1000, "rows": 1300, "kept": kept, "served_something": served}
            for risk, kept, served in ((0.1, 0.981, 0.5), (0.2, 1.0, 1.0))
        ],
    }
    alone = {**study, "chosen": "chow_average", "gain_over_chow_average": {"learned": gained(-0.001, bounded=False)}}
    run = {"name": "lines", "variant": "onnx/int8", "loss": "exact", "clouds": {"teacher": study, "always right": alone}}
    lines = deferral_markdown({"lines": run}).splitlines()
    assert lines[2:6] == [
        "| lines, teacher | 40.0% | 30.0% | `learned`, chosen | +10.0% (+5.0 to +20.0) | +0.0010 (+0.0005 to +0.0020) | 0.0% |",
        "|  |  |  | `chow_sum`, gains most | +20.0% (+10.0 to +40.0) | +0.0020 (+0.0010 to +0.0040) | 25.0% |",
        "|  |  |  | `chow_average` |  |  | 50.0% |",
        "| lines, always right | 40.0% | 30.0% | `chow_average`, chosen |  |  | 50.0% |",
    ]
    assert lines[-1] == (
        "- lines: onnx/int8, the loss `exact`, a risk of 20.0%; 1,000 rows fit and choose, 2,000 measure. Of 1,000 calibrations on "
        "1,300 rows drawn from those, with a δ of 5.0%, so many kept their promise: 98.1% at a risk of 10.0% (50.0% could serve "
        "something), 100.0% at a risk of 20.0% (100.0% could serve something)."
    )

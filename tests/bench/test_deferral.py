"""The deferral study: what a scorer gains, and how often a promise is kept on rows drawn from a known truth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pocketseq.calibration import Judged
from pocketseq.confidence import SCORERS, Evidence
from pocketseq.examples import Example, write_examples
from pocketseq_bench.deferral import deferral, kept, main


def answers(rows: int) -> list[Judged]:
    """Long answers are wrong more often, which the sum of log-probabilities sees and their average does not."""
    rng = np.random.default_rng(8)
    found = []
    for number in range(rows):
        surety, length = float(rng.uniform(0.6, 1)), int(rng.integers(1, 7))
        wrong = float(rng.uniform() > surety**length)
        found.append(Judged(str(number), wrong, Evidence((math.log(surety),) * length)))
    return found


def test_gains_are_relative_to_chow_average() -> None:
    """On the same resamplings, so that the interval of the ratio is far from nothing where the scorer is better."""
    found = deferral(answers(1500), variant="v", data="d")
    assert found["chosen"] == "chow_sum"
    gain = found["gain_over_chow_average"]["chow_sum"]
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    areas = found["scorers"]
    assert gain["value"] == pytest.approx(areas["chow_sum"]["area"]["value"] / areas["chow_average"]["area"]["value"] - 1)
    assert found["rows"] == {"chose": 900, "tested": 600}


def test_the_promise_is_kept_on_answers_of_its_own() -> None:
    """In 95 of 100 resamplings or more, and not by serving nothing."""
    found = kept(answers(3000), SCORERS["chow_sum"], risk=0.2)
    assert found["kept"] >= 0.95
    assert found["served_something"] > 0.9
    assert 0.05 < found["mean_coverage"] < 0.5


def test_a_bundle_is_measured_and_kept_beside_others(tmp_path: Path) -> None:
    """The shipped one, on a few rows; what was in the file stays."""
    rows, output = tmp_path / "rows.jsonl", tmp_path / "deferral.json"
    lines = [f"value_{number} = retrun" for number in range(20)]
    write_examples(rows, [Example(id=line, fields={"before": "", "line": line, "after": ""}, target=line) for line in lines])
    output.write_text(json.dumps({"format": 1, "bundles": {"other": {"chosen": "chow_sum"}}}), encoding="utf-8")
    main(["python-fix", str(rows), "-o", str(output)])
    found = json.loads(output.read_text(encoding="utf-8"))["bundles"]
    assert set(found) == {"other", "python-fix"}
    assert found["python-fix"]["rows"]["tested"] == 8
    assert [entry["risk"] for entry in found["python-fix"]["promise"]] == [0.05, 0.1, 0.2]

"""Rows that the models learnt from: they help to fit where that foresees other rows better, and choose and test nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pocketseq.calibration import Judged, Promise, calibrate, calibrate_answers, calibrate_parts
from pocketseq.calibration.calibrated import confidences_of
from pocketseq.calibration.fitting import Fitted, fit
from pocketseq.calibration.measures import deferral_area
from pocketseq.calibration.report import calibration_page
from pocketseq.confidence import Evidence, Scorer, gain_scorer, gate, learned_scorer
from pocketseq.errors import CalibrationError
from pocketseq.examples import Example
from pocketseq.testing import scripted_model

WIDTH = 40
DIRECTION = np.random.default_rng(0).normal(0, 1, WIDTH) / math.sqrt(WIDTH)


def answers(rows: int, seed: int, *, easier: float = 0.0, turned: float = 1.0) -> list[Judged]:
    """One direction of the state among forty tells who is right: the device where it points forth, the cloud where it points back.

    Args:
        rows: Number of answers.
        seed: Of the draws.
        easier: Added to the log-odds of both to be right, as on rows that they learnt from.
        turned: −1 where the direction tells the opposite.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number in range(rows):
        state = rng.normal(0, 1, WIDTH).astype(np.float32)
        told = 2 * turned * float(state @ DIRECTION)
        wrong, cloud = (float(rng.uniform() > 1 / (1 + math.exp(-odds - easier))) for odds in (told, -told))
        evidence = Evidence((-float(rng.exponential()), -0.1), tokens=(3, 1), source=(3, 4))
        found.append(Judged(f"{seed}-{number}", wrong, evidence, state, cloud_loss=cloud))
    return found


def gained(scorer: Scorer, rows: list[Judged], learnt: Fitted) -> float:
    """Area over chance on rows that fitted nothing."""
    judge_input = gate(learnt.gate)
    told = [
        replace(row, evidence=replace(row.evidence, state=row.pooled, gate=judge_input(row.pooled[None], [2])[0]))
        for row in rows
        if row.pooled is not None
    ]
    return float(deferral_area(confidences_of(told, scorer), np.array([row.loss - row.cloud_loss for row in rows])))


def test_they_help_where_other_rows_are_few() -> None:
    """Easier as they are, they show which way right and wrong lie: on fresh rows both scorers gain more with them."""
    few, many, fresh = answers(120, 1), answers(1000, 2, easier=0.7), answers(1000, 3)
    areas = []
    for seen in ([], many):
        learnt = fit(few, seen=seen)
        assert learnt is not None
        assert learnt.gain is not None
        assert learnt.gain_foreseen is not None
        assert learnt.helped == len(seen)
        assert len(learnt.rows) == len(learnt.foreseen) == len(learnt.gain_foreseen) == len(few)
        areas.append([gained(scorer, fresh, learnt) for scorer in (learned_scorer(learnt.learned), gain_scorer(learnt.gain))])
    (learned, gain), (learned_helped, gain_helped) = areas
    assert learned_helped > 1.1 * learned > 0
    assert gain_helped > 1.1 * gain > 0


def test_rows_that_mislead_are_left_alone() -> None:
    """Where the models have learnt them by heart they say nothing of other rows; the fit is the one without them."""
    some, misleading = answers(300, 4), answers(1000, 5, turned=-1.0)
    alone, together = fit(some), fit(some, seen=misleading)
    assert alone is not None
    assert together is not None
    assert together.helped == 0
    assert (together.learned, together.gate, together.gain) == (alone.learned, alone.gate, alone.gain)


def test_they_choose_nothing_and_test_nothing() -> None:
    """The promise rests on the other rows alone; the page says how many helped."""
    rows, seen = answers(500, 6), answers(600, 7)
    found = calibrate_answers(rows, Promise(risk=0.3), seen=seen, variant="v", data="d")
    assert {row.id for row in [*found.chosen, *found.tested]} == {row.id for row in rows}
    assert found.calibration.n == len(found.tested) == 200
    assert found.helped == 600
    assert "600 that the model had learnt from helped to fit" in calibration_page(found, title="t")


@pytest.mark.parametrize("part", ["choosing", "testing"])
def test_what_chooses_or_tests_is_none_of_them(part: str) -> None:
    """A fit that knows a row by heart would make it prove a promise that fresh rows break; the same row has the same id."""
    parts = {"choosing": answers(120, 8), "testing": answers(80, 9)}
    seen = [*answers(100, 10), *parts[part][7:9]]
    with pytest.raises(
        CalibrationError, match=r"not trained on, found 2 that are also among those seen.*'(8|9)-7'.*leave them out"
    ):
        calibrate_parts(**parts, seen=seen, variant="v", data="d")
    with pytest.raises(CalibrationError, match="found 2 that are also among those seen"):
        calibrate_answers([*parts["choosing"], *parts["testing"]], seen=seen, variant="v", data="d")


def test_no_row_is_answered_that_may_not_be_judged() -> None:
    """Rows that are both are refused before the model begins."""
    rows = [Example(id=f"r{i}", fields={"text": f"t{i}"}, target=f"t{i}") for i in range(9)]
    counts: list[int] = []
    with pytest.raises(CalibrationError, match="found 9 that are also among those seen, by their ids .'r0'"):
        calibrate(scripted_model({}, confidence=0.9), rows, seen=rows, progress=counts.append)
    assert not counts


def test_a_model_answers_them_too() -> None:
    """They are judged like the others, and counted in the progress."""
    rows = [Example(id=str(i), fields={"text": f"t{i}"}, target=f"t{i}" if i % 4 else "other") for i in range(240)]
    counts: list[int] = []
    sure = {row.fields["text"]: 0.99 if int(row.id) % 4 else 0.2 for row in rows}
    found = calibrate(scripted_model({}, confidence=sure), rows[:200], seen=rows[200:], progress=counts.append)
    assert counts[-1] == 240
    assert len(found.chosen) + len(found.tested) == 200

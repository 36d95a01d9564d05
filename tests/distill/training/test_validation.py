"""Validation rows are rows that are not trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.distill.models import repair_examples

from pocketseq.errors import DataError
from pocketseq_distill.distil import Data, distil
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.validation import held_out

TRAIN, OTHERS = repair_examples(8), repair_examples(4, seed=1)


def test_rows_that_are_trained_on_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """By their input, whatever their ids and answers are."""
    disguised = replace(TRAIN[0], id="new", target="another answer")
    assert held_out([disguised, *OTHERS], TRAIN) == OTHERS
    assert "left out of validation: 1 of 5 rows, whose inputs are trained on" in capsys.readouterr().err
    assert held_out(OTHERS, TRAIN) == OTHERS
    assert held_out([], TRAIN) == []
    assert capsys.readouterr().err == ""


def test_a_validation_inside_the_training_rows_is_refused(teacher_path: Path, tmp_path: Path) -> None:
    """Its result would say nothing; nothing is trained."""
    plan = TrainingPlan(steps=1, batch_size=4, validate_every=1)
    with pytest.raises(DataError, match="expected validation rows that are not trained on, found the inputs of all 3 among"):
        distil(
            teacher_path,
            Data(train=TRAIN, validation=TRAIN[2:5], fingerprint="x"),
            tmp_path / "student",
            student=StudentSettings(),
            plan=plan,
        )
    assert not (tmp_path / "student").exists()

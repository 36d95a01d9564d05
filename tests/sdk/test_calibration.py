"""Calibration: the promise holds, by hand numbers and over many draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pocketseq.calibration import Judged, auroc, binomial_cdf, calibrate, calibration_of, choose_threshold
from pocketseq.errors import CalibrationError
from pocketseq.examples import Example
from pocketseq.manifest import SERVES_NOTHING
from pocketseq.testing import scripted_model


def judged(rows: int, seed: int, *, error_at: Any) -> list[Judged]:
    """Answers whose chance to be wrong follows from their confidence."""
    rng = np.random.default_rng(seed)
    surety = rng.uniform(0.02, 1, rows)
    wrong = rng.uniform(size=rows) < error_at(surety)
    return [Judged(id=f"{seed}-{i}", correct=not wrong[i], logprobs=(math.log(surety[i]), 0.0)) for i in range(rows)]


def of(answers: list[Judged], **changes: Any) -> Any:
    return calibration_of(answers, **{"variant": "v", "data": "d", "risk": 0.1, "delta": 0.05, **changes})


@pytest.mark.parametrize(
    ("k", "n", "p", "expected"),
    [
        (0, 29, 0.1, 0.9**29),
        (1, 2, 0.5, 0.75),
        (2, 5, 0.3, 0.83692),
        (3, 3, 0.2, 1.0),
        (0, 0, 0.1, 1.0),
        (40, 100, 0.5, 0.02844397),
    ],
)
def test_the_binomial_tail_is_exact(k: int, n: int, p: float, expected: float) -> None:
    """Against numbers by hand and from tables."""
    assert binomial_cdf(k, n, p) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("risk", "needed"), [(0.01, 299), (0.05, 59), (0.1, 29)])
def test_as_many_faultless_answers_are_needed_as_the_tables_say(risk: float, needed: int) -> None:
    """At delta 0.05: one answer fewer proves nothing."""
    assert binomial_cdf(0, needed, risk) <= 0.05 < binomial_cdf(0, needed - 1, risk)


def test_the_area_counts_ties_half() -> None:
    """By hand: of four pairs of a right and a wrong answer three are in order and one is tied."""
    assert auroc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])) == 3.5 / 4
    assert auroc(np.array([0.1, 0.9]), np.array([True, False])) == 0.0


def test_the_area_is_undefined_without_both_kinds() -> None:
    """All right or all wrong leaves nothing to tell apart."""
    assert auroc(np.array([0.1, 0.9]), np.array([True, True])) is None
    assert auroc(np.array([0.1, 0.9]), np.array([False, False])) is None


def test_a_threshold_is_loosened_up_to_the_first_failure() -> None:
    """60 right answers pass, then errors stop it; a looser candidate that would pass again is not reached."""
    confidences = np.array([0.9] * 60 + [0.6] * 40 + [0.3] * 2000)
    correct = np.array([True] * 60 + [False] * 40 + [True] * 2000)
    assert choose_threshold(confidences, correct, candidates=[0.8, 0.5, 0.2], risk=0.1, delta=0.05) == 0.8
    assert choose_threshold(confidences, correct, candidates=[0.5, 0.2], risk=0.1, delta=0.05) is None
    assert choose_threshold(confidences, correct, candidates=[0.2], risk=0.1, delta=0.05) == 0.2


def test_the_promise_is_kept() -> None:
    """Of 200 calibrations on fresh rows, hardly more than delta serve more wrong answers than the risk allows (+3 deviations)."""

    def error_at(surety: Any) -> Any:
        return (1 - surety) ** 2 * 0.9

    broken = served = 0
    grid = np.linspace(0.02, 1, 2001)
    for seed in range(200):
        found = of(judged(800, seed, error_at=error_at), risk=0.1, delta=0.1)
        region = grid[grid >= found.threshold]
        served += bool(region.size)
        broken += bool(region.size) and float(error_at(region).mean()) > 0.1
    assert served >= 180  # and not by serving nothing
    assert broken / 200 <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / 200)


def test_a_calibration_reports_the_half_that_tested() -> None:
    """Coverage and accuracy of rows that chose neither scorer nor candidates."""
    found = of(judged(1000, 1, error_at=lambda surety: (1 - surety) ** 2))
    assert found.feasible
    assert found.n == 500
    assert 0.2 < found.coverage < 0.6
    assert found.accuracy >= 0.9
    assert 0.7 < found.auroc < 0.95
    assert (found.variant, found.data, found.risk, found.delta) == ("v", "d", 0.1, 0.05)


def test_the_scorer_that_separates_best_is_chosen() -> None:
    """Here only the first token tells right from wrong."""
    rng = np.random.default_rng(0)
    answers = []
    for number in range(400):
        correct = bool(rng.integers(2))
        first = -0.1 if correct else -2.0
        answers.append(Judged(id=str(number), correct=correct, logprobs=(first, *(-rng.exponential(8, 5)))))
    assert of(answers).scorer == "first_token"


def test_where_no_threshold_is_safe_nothing_is_served() -> None:
    """A model that is always wrong, and one with too few rows to prove anything."""
    for answers in (judged(400, 2, error_at=lambda surety: surety * 0 + 1), judged(20, 3, error_at=lambda surety: surety * 0)):
        found = of(answers)
        assert not found.feasible
        assert (found.threshold, found.coverage, found.accuracy) == (SERVES_NOTHING, 0.0, None)


def test_where_everything_is_right_everything_is_served() -> None:
    """The area is undefined then, and the default scorer stands."""
    found = of(judged(400, 4, error_at=lambda surety: surety * 0))
    assert (found.coverage, found.accuracy, found.auroc, found.scorer) == (1.0, 1.0, None, "chow_sum")


def test_the_order_of_the_rows_does_not_matter() -> None:
    """The halves are drawn by the rows' names."""
    answers = judged(300, 5, error_at=lambda surety: (1 - surety) * 0.8)
    assert of(answers) == of(answers[::-1])


def test_an_answer_without_a_confidence_is_the_last_to_be_served() -> None:
    """A runtime that computed no number earns no trust."""
    answers = judged(300, 6, error_at=lambda surety: surety * 0) + [
        Judged(id=f"n{i}", correct=False, logprobs=(math.nan,)) for i in range(100)
    ]
    found = of(answers)
    assert found.feasible
    assert found.threshold > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"risk": 0.0}, "risk: expected a number between 0 and 1, found 0.0"), ({"delta": 1.5}, "delta: expected .* found 1.5")],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    """By name."""
    with pytest.raises(CalibrationError, match=message):
        of(judged(10, 7, error_at=lambda surety: surety), **changes)


def test_rows_are_needed() -> None:
    """One row cannot both choose and test."""
    with pytest.raises(CalibrationError, match="expected at least 2 labelled rows, some hundreds for a useful threshold, found 0"):
        of([])


def test_a_model_is_calibrated_on_its_own_answers() -> None:
    """Right where the answer is the target, bound to the variant that answered, with the rows' fingerprint."""
    rows = [Example(id=str(i), fields={"text": f"t{i}"}, target=f"t{i}" if i % 4 else "other") for i in range(200)]
    sure = {f"t{i}": 0.99 if i % 4 else 0.2 for i in range(200)}
    counts: list[int] = []
    model = scripted_model({}, confidence=sure)
    found = calibrate(model, rows, progress=counts.append)
    assert found.variant == model.variant.hash
    assert 0.2 < found.threshold <= 0.99
    assert found.accuracy == 1.0
    assert counts == list(range(1, 201))
    assert calibrate(model, rows[1:]).data != found.data

"""Guarantees: the promise holds, by hand numbers and over a thousand draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketseq.calibration.guarantee import Rows, binomial_cdf, candidates, check_promise, choose_threshold, p_value, smallest_risk
from pocketseq.errors import CalibrationError
from pocketseq.manifest import Guarantee

RESAMPLINGS = 1000
GRID = np.linspace(0, 1, 4001)


def rows(confidences: list[float], losses: list[float]) -> Rows:
    return Rows.of(np.array(confidences), np.array(losses))


def mean_loss_at(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """The truth of the synthetic model: expected loss of an answer of this confidence, base risk 0.3."""
    return 0.9 * (1 - confidence) ** 2


def zero_or_one(expected: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return (rng.uniform(size=expected.shape) < expected).astype(float)


def by_degrees(expected: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Losses anywhere in 0 to 1, widely spread around what is expected."""
    return rng.beta(0.7 * expected + 1e-9, 0.7 * (1 - expected) + 1e-9)


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


@pytest.mark.parametrize("n", [7, 300, 5000])
def test_the_binomial_tail_agrees_with_a_slow_sum(n: int) -> None:
    """In exact integers, up to thousands of rows."""
    for k in (0, n // 10, n // 8):
        exact = sum(math.comb(n, i) * 9 ** (n - i) for i in range(k + 1))
        assert binomial_cdf(k, n, 0.1) == pytest.approx(math.exp(math.log(exact) - n * math.log(10)), rel=1e-8)


@pytest.mark.parametrize(("risk", "needed"), [(0.01, 299), (0.05, 59), (0.1, 29)])
def test_as_many_faultless_answers_are_needed_as_the_tables_say(risk: float, needed: int) -> None:
    """At delta 0.05: one answer fewer proves nothing."""
    assert binomial_cdf(0, needed, risk) <= 0.05 < binomial_cdf(0, needed - 1, risk)


def test_hoeffding_bentkus_by_hand() -> None:
    """The better of the two bounds: Hoeffding's exponential where much is lost by degrees, Bentkus' tail where little is."""
    few, many = p_value(0.0, 40, risk=0.1, guarantee="hoeffding-bentkus"), 0.9**40
    assert few == pytest.approx(many)  # exp(−40 · ln(1/0.9)), which is below e times the same tail
    h = 0.05 * math.log(0.5) + 0.95 * math.log(0.95 / 0.9)
    assert p_value(10.0, 200, risk=0.1, guarantee="hoeffding-bentkus") == pytest.approx(
        min(math.exp(-200 * h), math.e * binomial_cdf(10, 200, 0.1))
    )
    assert p_value(9.3, 200, risk=0.1, guarantee="hoeffding-bentkus") <= math.e * binomial_cdf(10, 200, 0.1)
    assert p_value(30.0, 200, risk=0.1, guarantee="hoeffding-bentkus") == 1.0
    assert p_value(0.0, 0, risk=0.1, guarantee="hoeffding-bentkus") == 1.0


def test_for_losses_of_0_and_1_the_binomial_is_the_sharper() -> None:
    """Which is why it is their default."""
    for errors in (1, 5, 12, 19):
        exact = p_value(errors, 200, risk=0.1, guarantee="binomial")
        assert exact <= p_value(errors, 200, risk=0.1, guarantee="hoeffding-bentkus")


def test_a_threshold_is_loosened_up_to_the_first_failure() -> None:
    """60 right answers pass, then errors stop it; a looser candidate that would pass again is not reached."""
    answers = rows([0.9] * 60 + [0.6] * 40 + [0.3] * 2000, [0.0] * 60 + [1.0] * 40 + [0.0] * 2000)
    assert choose_threshold(answers, candidates=[0.8, 0.5, 0.2], risk=0.1, delta=0.05) == 0.8
    assert choose_threshold(answers, candidates=[0.5, 0.2], risk=0.1, delta=0.05) is None
    assert choose_threshold(answers, candidates=[0.2], risk=0.1, delta=0.05) == 0.2
    assert choose_threshold(answers, candidates=[], risk=0.1, delta=0.05) is None


def test_conformal_risk_control_by_hand() -> None:
    """19 rows, losses at the third and fourth: (1 + 1) / 20 is allowed at 10%, (2 + 1) / 20 is not."""
    confidences = [1 - 0.05 * place for place in range(19)]
    answers = rows(confidences, [0.0, 0.0, 1.0, 1.0] + [0.0] * 15)
    assert choose_threshold(answers, candidates=[], risk=0.1, delta=0.05, guarantee="conformal") == pytest.approx(0.9)
    assert choose_threshold(answers, candidates=[], risk=0.04, delta=0.05, guarantee="conformal") is None
    assert choose_threshold(answers, candidates=[], risk=0.16, delta=0.05, guarantee="conformal") == pytest.approx(confidences[-1])


def test_conformal_risk_control_does_not_split_equal_confidences() -> None:
    """All of one confidence are served or none is."""
    answers = rows([0.9, 0.5, 0.5, 0.5], [0.0, 0.0, 1.0, 0.0])
    assert choose_threshold(answers, candidates=[], risk=0.3, delta=0.05, guarantee="conformal") == 0.9


@pytest.mark.parametrize("risk", [0.05, 0.1, 0.2])
@pytest.mark.parametrize(("guarantee", "draw"), [("binomial", zero_or_one), ("hoeffding-bentkus", by_degrees)])
def test_the_promise_is_kept_in_95_of_100_draws(
    guarantee: Guarantee, draw: Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]], risk: float
) -> None:
    """A thousand calibrations on fresh rows of a known truth; and not by serving nothing."""
    rng = np.random.default_rng(11)
    # True risk among what each threshold serves.
    risks = np.cumsum(mean_loss_at(GRID[::-1])) / np.arange(1, GRID.size + 1)
    kept = served = 0
    for _ in range(RESAMPLINGS):
        confidences = rng.uniform(size=2000)
        losses = draw(mean_loss_at(confidences), rng)
        choosing, testing = Rows.of(confidences[:700], losses[:700]), Rows.of(confidences[700:], losses[700:])
        tried = candidates(choosing, risk=risk, guarantee=guarantee)
        threshold = choose_threshold(testing, candidates=tried, risk=risk, delta=0.05, guarantee=guarantee)
        served += threshold is not None
        kept += threshold is None or risks[int((1 - threshold) * (GRID.size - 1))] <= risk
    assert kept >= 0.95 * RESAMPLINGS
    assert served >= 0.9 * RESAMPLINGS


@pytest.mark.parametrize("risk", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("draw", [zero_or_one, by_degrees])
def test_conformal_risk_control_keeps_its_promise_on_average(
    draw: Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]], risk: float
) -> None:
    """Over a thousand calibrations the share that is served and lost is at most the risk on average, and not far below it."""
    rng = np.random.default_rng(12)
    lost = np.cumsum(mean_loss_at(GRID[::-1])) / GRID.size
    found = []
    for _ in range(RESAMPLINGS):
        confidences = rng.uniform(size=300)
        answers = Rows.of(confidences, draw(mean_loss_at(confidences), rng))
        threshold = choose_threshold(answers, candidates=[], risk=risk, delta=0.05, guarantee="conformal")
        found.append(0.0 if threshold is None else lost[int((1 - threshold) * (GRID.size - 1))])
    assert risk - 0.01 < np.mean(found) <= risk


def test_a_false_promise_would_be_found_out() -> None:
    """The same truth without a test, the threshold taken where the rows look good: the promise breaks far too often."""
    rng = np.random.default_rng(11)
    risks = np.cumsum(mean_loss_at(GRID[::-1])) / np.arange(1, GRID.size + 1)
    broken = 0
    for _ in range(200):
        confidences = rng.uniform(size=500)
        answers = Rows.of(confidences, zero_or_one(mean_loss_at(confidences), rng))
        good = np.flatnonzero(answers.lost[1:] <= 0.1 * np.arange(1, 501))
        broken += bool(good.size) and risks[int((1 - answers.confidences[good[-1]]) * (GRID.size - 1))] > 0.1
    assert broken > 0.2 * 200


def test_candidates_start_where_the_rows_are_surest_of_the_promise() -> None:
    """Not at a handful of rows that can prove nothing."""
    confidences = np.linspace(1, 0, 1000, endpoint=False)
    found = candidates(Rows.of(confidences, (confidences < 0.5).astype(float)), risk=0.1)
    assert found == sorted(found, reverse=True)
    assert 0.45 < found[0] < 0.55
    assert found[-1] == pytest.approx(confidences[-1])


def test_the_smallest_risk_that_can_be_kept_is_found() -> None:
    """59 faultless answers show 5% at delta 0.05, and hardly less."""
    faultless = rows([0.9] * 59 + [0.1] * 200, [0.0] * 59 + [1.0] * 200)
    assert smallest_risk(faultless, faultless, delta=0.05, guarantee="binomial") == 0.05
    hopeless = rows([0.5] * 50, [1.0] * 50)
    assert smallest_risk(hopeless, hopeless, delta=0.05, guarantee="binomial") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"risk": 0.0}, "risk: expected a number between 0 and 1, found 0.0"), ({"delta": 1.5}, "delta: expected .* found 1.5")],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    """By name."""
    with pytest.raises(CalibrationError, match=message):
        check_promise(**{"risk": 0.1, "delta": 0.05, **changes})

"""The scorer of gain: what the cloud would mend is handed over first, what nobody gets right is not, and its price is bounded."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from pocketseq.calibration import Calibrated, Judged, Promise, calibrate_answers
from pocketseq.calibration.calibrated import confidences_of
from pocketseq.calibration.fitting import fit
from pocketseq.calibration.measures import deferral_area, reliability
from pocketseq.calibration.report import calibration_page
from pocketseq.confidence import GAIN, LEARNED, Evidence, Scoring, confidence, gain_names, gain_scorer
from pocketseq.errors import DataError
from pocketseq.manifest import Calibration
from pocketseq.records import plain, read_record


def answers(rows: int, seed: int, *, sure: float = 0.5) -> list[Judged]:
    """Doubtful ones are often wrong, and one place of the pooled state tells which of them the cloud would get right.

    Args:
        rows: Number of answers.
        seed: Of the draws.
        sure: Share of answers without a doubt.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number in range(rows):
        doubt = float(rng.exponential(0.02 if rng.uniform() < sure else 1.0))
        state = rng.normal(0, 1, 4).astype(np.float32)
        state[2] = rng.uniform() < 0.5
        wrong = float(rng.uniform() > math.exp(-doubt))
        cloud = float(wrong and state[2] > 0) if rng.uniform() < 0.95 else float(rng.integers(2))
        evidence = Evidence((-doubt, -0.01), tokens=(3, 1), source=(3, 4))
        found.append(Judged(f"{seed}-{number}", wrong, evidence, state, cloud_loss=cloud))
    return found


@pytest.fixture(scope="module")
def found() -> Calibrated:
    """A calibration that was given the cloud's answers."""
    return calibrate_answers(answers(3000, 1), Promise(risk=0.15), variant="v" * 16, data="d" * 16)


def test_what_the_cloud_would_mend_is_handed_over_first(found: Calibrated) -> None:
    """On rows that tested it gains far more than the probability of being right, and keeps the promise there."""
    assert found.calibration.scorer == GAIN
    gains = np.array([answer.loss - answer.cloud_loss for answer in found.tested])
    ours, plain_one = (float(deferral_area(confidences_of(found.tested, found.scorers[name]), gains)) for name in (GAIN, LEARNED))
    assert ours > 1.15 * plain_one > 0
    assert found.areas[GAIN] > 1.15 * found.areas[LEARNED]
    assert found.calibration.feasible
    assert (found.calibration.accuracy or 0) >= 0.85


def test_without_the_clouds_answers_there_is_none() -> None:
    """A cloud that is always right, or wrong too seldom to learn from, leaves the probability of being right."""
    rows = answers(600, 2)
    for cloud in (0, 9):
        told = [replace(answer, cloud_loss=float(number < cloud)) for number, answer in enumerate(rows)]
        learnt = fit(told)
        assert learnt is not None
        assert learnt.gain is None
        found = calibrate_answers(told, variant="v", data="d")
        assert GAIN not in found.scorers
        assert found.price() is None


def test_its_confidence_is_a_probability_of_being_right(found: Calibrated) -> None:
    """A coarse one: among answers of like confidence about so many are right."""
    scores = confidences_of(found.tested, found.scorers[GAIN])
    assert reliability(scores, np.array([answer.loss for answer in found.tested]), bins=6).ece < 0.1


def test_the_confidence_by_hand(found: Calibrated) -> None:
    """From the two probabilities and the weight; none without the encoder's state."""
    gain, answer = found.calibration.gain, found.tested[0]
    assert gain is not None
    assert gain.local.features == gain.cloud.features == gain_names(4)
    state = answer.pooled
    assert state is not None
    values = Scoring.of(found.calibration).scorer
    bare = replace(answer.evidence, state=None)
    assert confidence(bare, values) is None
    seen = [*_plain_values(answer.evidence), *state.tolist()]
    local, cloud = (
        1
        / (
            1
            + math.exp(-one.bias - sum(w * (v - m) / s for w, v, m, s in zip(one.weights, seen, one.mean, one.scale, strict=True)))
        )
        for one in (gain.local, gain.cloud)
    )
    log_odds = gain.bias + gain.slope * (local - 0.8 * max(local, cloud))
    assert confidence(answer.evidence, gain_scorer(gain)) == pytest.approx(1 / (1 + math.exp(-log_odds)), rel=1e-4)


def _plain_values(evidence: Evidence) -> list[float]:
    from pocketseq.confidence import features

    found = features(evidence)
    return [found[name] for name in gain_names(4)[:-1]]


def unforeseeable(seed: int) -> list[Judged]:
    """Answers of which nothing foretells who gets them right."""
    rng = np.random.default_rng(seed)
    return [
        replace(
            answer,
            loss=float(rng.integers(2)),
            cloud_loss=float(rng.integers(2)),
            pooled=rng.normal(0, 1, 60).astype(np.float32),
        )
        for answer in answers(200, seed)
    ]


def test_where_nothing_is_foretold_there_is_none() -> None:
    """What the regressions make of such rows goes with being wrong as often as with being right."""
    learnt = fit(unforeseeable(3))
    assert learnt is not None
    assert learnt.gain is None


def test_it_judges_no_row_by_itself() -> None:
    """A fit remembers its own rows, and what is foreseen of each by a fit without it knows little of them."""
    learnt = fit(unforeseeable(7))
    assert learnt is not None
    assert learnt.gain is not None
    assert learnt.gain_foreseen is not None
    gains = np.array([answer.loss - answer.cloud_loss for answer in learnt.rows])
    remembered = float(deferral_area(confidences_of(learnt.rows, gain_scorer(learnt.gain)), gains))
    assert abs(float(deferral_area(learnt.gain_foreseen, gains))) < 0.5 * remembered


def test_a_price_above_a_fifth_is_too_dear() -> None:
    """Where nearly all is doubtful, what nobody gets right would stand among the surest: another scorer is taken."""
    found = calibrate_answers(answers(1500, 4, sure=0.0), Promise(risk=0.2), variant="v", data="d")
    assert found.areas[GAIN] > 1.1 * found.areas[LEARNED]
    assert found.coverages[GAIN] < 0.8 * found.coverages[LEARNED]
    assert found.calibration.scorer != GAIN
    assert found.calibration.gain is None
    assert found.price() is None


def test_the_price_is_told(found: Calibrated) -> None:
    """With what the probability of being right would serve, in a sentence and on the page, beside every scorer's share."""
    price = found.price()
    assert price is not None
    assert f"{LEARNED} would serve {found.coverages[LEARNED]:.1%} instead of {found.calibration.coverage:.1%}" in price
    page = calibration_page(found, title="t")
    assert "under the same promise learned would serve" in page
    assert "<th>Served</th>" in page
    assert found.coverages[GAIN] == found.calibration.coverage


def test_it_survives_its_journey_through_json(found: Calibrated) -> None:
    """The same confidences after it."""
    again = read_record(Calibration, json.loads(json.dumps(plain(found.calibration))), where="here", error=DataError)
    assert again == found.calibration
    before, after = Scoring.of(found.calibration).scorer, Scoring.of(again).scorer
    for answer in found.tested[:20]:
        assert confidence(answer.evidence, before) == confidence(answer.evidence, after)

"""Calibrating: rows are divided, a scorer is fitted and chosen, a threshold tested, and the promise bound to what answered."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketseq.calibration import Calibrated, Judged, Loss, Promise, calibrate, calibrate_answers, judge, read_answers
from pocketseq.calibration.choosing import choose_scorer
from pocketseq.calibration.fitting import fit
from pocketseq.calibration.measures import auroc
from pocketseq.confidence import FEATURES, LEARNED, PLAIN_FEATURES, SCORERS, Evidence, Scoring, confidence, gate, learned_scorer
from pocketseq.errors import CalibrationError, DataError, InfeasibleRiskError
from pocketseq.examples import Example
from pocketseq.manifest import SERVES_NOTHING, Calibration
from pocketseq.records import plain, read_record
from pocketseq.testing import scripted_model


def judged(rows: int, seed: int, *, error_at: Callable[[Any], Any]) -> list[Judged]:
    """Answers whose chance to be wrong follows from their confidence; without spread, so that nothing can be fitted."""
    rng = np.random.default_rng(seed)
    surety = rng.uniform(0.02, 1, rows)
    wrong = rng.uniform(size=rows) < error_at(surety)
    return [Judged(f"{seed}-{i}", float(wrong[i]), Evidence((math.log(surety[i]), 0.0))) for i in range(rows)]


def seen(rows: int, seed: int) -> list[Judged]:
    """Answers with all that a learned scorer may look at: only entropy and one place of the pooled state tell right from wrong."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(rows):
        entropy, state = rng.exponential(1, 2).tolist(), rng.normal(0, 1, 4).astype(np.float32)
        wrong = rng.uniform() < 1 / (1 + math.exp(3 - 2 * sum(entropy) + 2 * float(state[2])))
        evidence = Evidence(
            (-0.1, -0.2), tokens=(3, 1), entropies=tuple(entropy), gaps=tuple(rng.exponential(1, 2).tolist()), source=(3, 4)
        )
        found.append(Judged(f"{seed}-{number}", float(wrong), evidence, state))
    return found


def of(answers: list[Judged], **changes: Any) -> Calibrated:
    return calibrate_answers(answers, Promise(**changes), variant="v", data="d")


def right_at(surety: Any) -> Any:
    return surety * 0


def test_a_calibration_reports_the_part_that_tested() -> None:
    """Coverage and accuracy of rows that chose neither scorer nor candidates."""
    found = of(judged(1000, 1, error_at=lambda surety: (1 - surety) ** 2))
    calibration = found.calibration
    assert calibration.feasible
    assert calibration.n == len(found.tested) == 400
    assert 0.2 < calibration.coverage < 0.6
    assert (calibration.accuracy or 0) >= 0.9
    assert 0.7 < (calibration.auroc or 0) < 0.95
    assert (calibration.variant, calibration.data, calibration.risk, calibration.delta) == ("v", "d", 0.1, 0.05)
    assert (calibration.loss, calibration.guarantee, calibration.learned, calibration.gate) == ("exact", "binomial", None, None)


def test_the_parts_are_disjoint_and_drawn_by_a_seed() -> None:
    """Every row has one job; another seed divides them otherwise; their order does not matter."""
    answers = seen(600, 1)
    one, other, turned = (
        calibrate_answers(rows, variant="v", data="d", seed=seed) for rows, seed in ((answers, 0), (answers, 1), (answers[::-1], 0))
    )
    parts = [{answer.id for answer in part} for part in (one.chosen, one.tested)]
    assert [len(part) for part in parts] == [360, 240]
    assert len(set.union(*parts)) == 600
    assert {answer.id for answer in other.tested} != parts[1]
    assert turned.calibration == one.calibration


def test_the_scorer_that_gains_most_is_chosen() -> None:
    """Here only the first token tells right from wrong."""
    rng = np.random.default_rng(0)
    answers = []
    for number in range(400):
        wrong = float(rng.integers(2))
        answers.append(Judged(str(number), wrong, Evidence((-0.1 - 1.9 * wrong, *(-rng.exponential(8, 5)).tolist()))))
    found = of(answers)
    assert found.calibration.scorer == "first_token"
    assert max(found.areas.values()) == found.areas["first_token"]


def test_the_best_by_chance_is_not_chosen() -> None:
    """Of scorers that differ by less than the noise the one that is believed in before stands, and a clear winner is taken."""
    rng = np.random.default_rng(0)
    gains = rng.integers(0, 2, 500).astype(float)
    good = rng.normal(0, 1, 500) - gains
    hair, clear = good + rng.normal(0, 0.05, 500), good - gains
    chance = choose_scorer({LEARNED: hair, "chow_sum": good, "entropy": hair}, gains, seed=0)
    assert chance.scorer == LEARNED
    assert choose_scorer({LEARNED: hair, "entropy": clear}, gains, seed=0).scorer == "entropy"
    assert choose_scorer({"entropy": good, "chow_average": good}, gains, seed=0).scorer == "chow_average"
    assert chance.areas["chow_sum"] > 0.05


def test_what_is_learnt_judges_no_row_by_itself() -> None:
    """On answers that nothing foretells, a fit remembers its own rows, and the foreseen log-odds know nothing of them."""
    rng = np.random.default_rng(7)
    answers = [replace(answer, loss=float(rng.integers(2)), pooled=rng.normal(0, 1, 60)) for answer in seen(150, 7)]
    learnt = fit(answers)
    assert learnt is not None
    right = np.array([answer.loss < 1 for answer in learnt.rows])
    assert abs((auroc(learnt.foreseen, right) or 0) - 0.5) < 0.15
    gates = np.array([answer.evidence.gate for answer in learnt.rows])
    assert abs((auroc(gates, right) or 0) - 0.5) < 0.15
    judge_input = gate(learnt.gate)
    fitted = np.array([judge_input(answer.pooled[None], [2])[0] for answer in learnt.rows if answer.pooled is not None])
    assert (auroc(fitted, right) or 0) > 0.75


def test_the_spread_is_looked_at_only_where_it_tells_more() -> None:
    """It costs time at every token: noise in it is left alone, and what it says of the truth is taken."""
    telling = fit(seen(1500, 8))
    mute = fit([replace(answer, evidence=replace(answer.evidence, entropies=(1.0, 1.0))) for answer in seen(1500, 8)])
    assert telling is not None
    assert mute is not None
    assert telling.learned.features == FEATURES
    assert mute.learned.features == PLAIN_FEATURES


def test_the_scorer_is_chosen_by_the_cloud_that_there_is() -> None:
    """Where the cloud errs on what the first token warns of, handing that over gains nothing."""
    rng = np.random.default_rng(0)
    answers = []
    for number in range(900):
        kind = number % 3
        first, last = ((-0.05, 0.0), (-3.0, 0.0), (-0.1, -5.0))[kind]
        noise = float(rng.uniform(0, 0.01))
        answers.append(Judged(str(number), float(kind > 0), Evidence((first - noise, last)), cloud_loss=float(kind == 1)))
    assert of([replace(answer, cloud_loss=0.0) for answer in answers]).areas["first_token"] > 0.03
    found = of(answers)
    assert found.areas["first_token"] < 0.01
    assert found.areas[found.calibration.scorer] > 0.05


def test_what_is_learnt_beats_every_rule_where_they_are_blind() -> None:
    """Log-probabilities say nothing here; entropy and encoder state do, and the gate knows its part before the answer."""
    found = of(seen(3000, 2), risk=0.2)
    calibration = found.calibration
    assert calibration.scorer == LEARNED
    assert found.areas[LEARNED] > 1.1 * found.areas["entropy"] > 1.5 * abs(found.areas["chow_average"])
    assert calibration.feasible
    assert (calibration.accuracy or 0) >= 0.8
    assert calibration.gate is not None
    gates = np.array([answer.evidence.gate for answer in found.tested])
    wrong = np.array([answer.loss for answer in found.tested])
    assert gates[wrong == 0].mean() > gates[wrong == 1].mean() + 0.5


def test_a_learned_confidence_is_calibrated() -> None:
    """Among answers of like confidence, so many are right."""
    found = of(seen(6000, 3), risk=0.2)
    scores = np.array([confidence(answer.evidence, found.scorers[LEARNED]) for answer in found.tested])
    right = np.array([1 - answer.loss for answer in found.tested])
    for part in np.array_split(np.argsort(scores), 8):
        assert abs(scores[part].mean() - right[part].mean()) < 0.08


def test_a_calibration_survives_its_journey_through_json() -> None:
    """The numbers of the learned scorer and the gate give the same confidence after it."""
    found = of(seen(800, 4), risk=0.3)
    again = read_record(Calibration, json.loads(json.dumps(plain(found.calibration))), where="here", error=DataError)
    assert again == found.calibration
    assert again.learned is not None
    before, after = Scoring.of(found.calibration), Scoring.of(again)
    for answer in found.tested[:20]:
        assert confidence(answer.evidence, before.scorer) == confidence(answer.evidence, after.scorer)
        assert confidence(answer.evidence, learned_scorer(again.learned)) == confidence(answer.evidence, before.scorer)


@pytest.mark.parametrize("answers", [seen(150, 5), [replace(answer, loss=0.0) for answer in seen(600, 5)]])
def test_too_little_to_learn_from_is_no_error(answers: list[Judged]) -> None:
    """Few rows, or none that is wrong: the rules remain, and choose."""
    found = of(answers)
    assert set(found.scorers) == set(SCORERS)
    assert len(found.chosen) + len(found.tested) == len(answers)


def test_where_no_threshold_is_safe_nothing_is_served() -> None:
    """A model that is always wrong, and one with too few rows to prove anything."""
    for answers in (judged(400, 2, error_at=lambda surety: surety * 0 + 1), judged(20, 3, error_at=right_at)):
        calibration = of(answers).calibration
        assert not calibration.feasible
        assert (calibration.threshold, calibration.coverage, calibration.accuracy) == (SERVES_NOTHING, 0.0, None)


def test_a_risk_that_cannot_be_kept_names_the_smallest_that_can() -> None:
    """With the coverage that it would have; asked for, it is kept."""
    answers = judged(1500, 8, error_at=lambda surety: 0.15 + 0.5 * (1 - surety))
    found = of(answers, risk=0.05)
    assert found.smallest_risk is not None
    assert 0.1 < found.smallest_risk < 0.3
    words = found.refusal()
    assert words is not None
    assert (
        f"the smallest risk that these rows can show is {found.smallest_risk:.1%}, at which {found.smallest_coverage:.1%}" in words
    )
    allowed = of(answers, risk=found.smallest_risk)
    assert allowed.refusal() is None
    assert allowed.calibration.coverage == found.smallest_coverage
    assert "nor for any other risk" in (of(judged(400, 2, error_at=lambda surety: surety * 0 + 1)).refusal() or "")


def test_where_everything_is_right_everything_is_served() -> None:
    """The area is undefined then, and the default scorer stands."""
    found = of(judged(400, 4, error_at=right_at)).calibration
    assert (found.coverage, found.accuracy, found.auroc, found.scorer) == (1.0, 1.0, None, "chow_sum")


def test_a_perfect_confidence_bounds_what_can_be_served() -> None:
    """(1 − base risk) / (1 − risk), and all where everything is right."""
    found = of(judged(1000, 1, error_at=lambda surety: 1 - surety))
    assert found.largest_coverage == pytest.approx((1 - found.base_risk) / 0.9)
    assert of(judged(400, 4, error_at=right_at)).largest_coverage == 1.0


def test_an_answer_without_a_confidence_is_the_last_to_be_served() -> None:
    """A runtime that computed no number earns no trust."""
    answers = judged(300, 6, error_at=right_at) + [Judged(f"n{i}", 1.0, Evidence((math.nan,))) for i in range(100)]
    found = of(answers).calibration
    assert found.feasible
    assert found.threshold > 0


def test_losses_by_degrees_are_bounded_by_another_test() -> None:
    """Hoeffding and Bentkus for a mean loss; the binomial is refused there, and a test that nobody knows everywhere."""
    rng = np.random.default_rng(9)
    answers = [
        replace(answer, loss=float(rng.beta(1, 3)) * answer.loss) for answer in judged(1500, 9, error_at=lambda surety: 1 - surety)
    ]
    found = of(answers, loss=Loss("edit_similarity")).calibration
    assert (found.guarantee, found.feasible) == ("hoeffding-bentkus", True)
    assert "the mean loss (by edit_similarity) is at most 10%, with probability 95%" in found.promise
    with pytest.raises(CalibrationError, match="expected hoeffding-bentkus or conformal for the loss chrf, .* found binomial"):
        Promise(loss=Loss("chrf"), guarantee="binomial")
    with pytest.raises(CalibrationError, match="expected one of .*conformal, found 'conformall'"):
        Promise(guarantee="conformall")  # type: ignore[arg-type]


def test_conformal_risk_control_is_an_option() -> None:
    """It bounds another share, and says so."""
    found = of(judged(1000, 1, error_at=lambda surety: 1 - surety), guarantee="conformal").calibration
    assert found.feasible
    assert found.coverage * (1 - (found.accuracy or 0)) <= 0.1
    assert found.promise == "on average at most 10% of all suggestions are served locally and wrong"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"risk": 0.0}, "risk: expected a number between 0 and 1, found 0.0"), ({"delta": 1.5}, "delta: expected .* found 1.5")],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    """By name, before anything is answered."""
    with pytest.raises(CalibrationError, match=message):
        Promise(**changes)  # type: ignore[arg-type]


def test_rows_are_needed() -> None:
    """One row cannot choose and test."""
    with pytest.raises(CalibrationError, match="expected at least 3 labelled rows, some hundreds for a useful threshold, found 0"):
        of([])


def examples(count: int) -> tuple[list[Example], dict[str, float]]:
    """Rows that a scripted model gets wrong one time in four, and knows it."""
    rows = [Example(id=str(i), fields={"text": f"t{i}"}, target=f"t{i}" if i % 4 else "other") for i in range(count)]
    return rows, {f"t{i}": 0.99 if i % 4 else 0.2 for i in range(count)}


def test_a_model_is_calibrated_on_its_own_answers() -> None:
    """Right where the answer is the target, bound to the variant that answered, with the rows' fingerprint."""
    rows, sure = examples(240)
    counts: list[int] = []
    model = scripted_model({}, confidence=sure)
    found = calibrate(model, rows, progress=counts.append).calibration
    assert found.variant == model.variant.hash
    assert 0.2 < found.threshold <= 1
    assert found.accuracy == 1.0
    assert counts == list(range(1, 241))
    assert calibrate(model, rows[1:]).calibration.data != found.data


def test_judging_keeps_all_that_a_scorer_may_look_at() -> None:
    """Whatever scorer is in force, which stays so; the scripted state is the number of its tokens."""
    model = scripted_model({"ab": "xy"}, confidence=0.5, threshold=0.3)
    (answer,) = judge(model, [Example(id="1", fields={"text": "ab"}, target="xz")], Loss("edit_similarity"), cloud={"1": "xz"})
    assert (answer.loss, answer.cloud_loss) == (0.5, 0.0)
    assert len(answer.evidence.entropies) == len(answer.evidence.gaps) == len(answer.evidence.tokens) == 3
    assert answer.evidence.gaps[0] > 0
    assert answer.pooled is not None
    assert answer.pooled.tolist() == [3.0]
    assert model.generate("ab").evidence == Evidence(
        answer.evidence.logprobs, answer.evidence.tokens, source=[*answer.evidence.source]
    )


def test_a_refused_model_keeps_what_was_found() -> None:
    """The error carries the calibration that serves nothing."""
    rows, _ = examples(200)
    with pytest.raises(
        InfeasibleRiskError, match="expected a threshold that keeps the risk at 10.0% with probability 95%"
    ) as caught:
        calibrate(scripted_model({}, confidence=0.5), rows)
    assert not caught.value.calibrated.calibration.feasible
    assert caught.value.calibrated.base_risk == pytest.approx(0.25, abs=0.1)


def test_a_teachers_answers_are_read_by_row(tmp_path: Path) -> None:
    """Rows without an answer are left out; an answer to another input is refused, and so is a file without any."""
    rows, _ = examples(3)
    file = tmp_path / "labels.jsonl"
    lines: list[dict[str, Any]] = [{"id": "1", "text": "yes", "logprob": -0.1}, {"id": "7", "text": "stray"}]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert read_answers(file, rows) == {"1": "yes"}
    text = "a\u2028b\u2029c\x85d"  # line ends by Unicode's count, which labels may hold as they are
    file.write_text(json.dumps({"id": "1", "text": text}, ensure_ascii=False) + "\r\n", encoding="utf-8", newline="")
    assert read_answers(file, rows) == {"1": text}
    file.write_text(json.dumps({"id": "1", "text": "yes", "source": "0" * 16}), encoding="utf-8")
    with pytest.raises(DataError, match=r"labels.jsonl:1: expected an answer to the row '1', found one to another input"):
        read_answers(file, rows)
    malformed = "expected an object with 'id' and 'text'"
    for text, message in (
        ("", "found none to any of 3"),
        ("{}", malformed),
        ('{"id": [1], "text": "x"}', malformed),
        ("[" * 100_000, malformed),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_answers(file, rows)
    with pytest.raises(DataError, match="expected a file of a teacher's answers"):
        read_answers(tmp_path / "none.jsonl", rows)


def test_a_row_that_the_cloud_did_not_answer_is_told() -> None:
    """Before the model answers, with how many there are."""
    rows, _ = examples(5)
    counts: list[int] = []
    with pytest.raises(CalibrationError, match="expected the cloud's answer to each row, found none to 4 of 5 .'1'.; leave these"):
        calibrate(scripted_model({}), rows, cloud={rows[0].id: "yes"}, progress=counts.append)
    assert not counts

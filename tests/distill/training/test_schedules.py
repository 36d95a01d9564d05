"""Learning rates rise, fall, and come down in time; the share of on-policy updates rises."""

from __future__ import annotations

import pytest

from pocketseq.errors import RecipeError
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.schedules import on_policy_share, rate_factor

PLAN = TrainingPlan(steps=110, warmup_steps=10)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    """Linear warm-up, then the half wave of a cosine."""
    assert [rate_factor(PLAN, step=step, elapsed_s=0) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert rate_factor(PLAN, step=60, elapsed_s=0) == pytest.approx(0.5)
    assert rate_factor(PLAN, step=110, elapsed_s=0) == pytest.approx(0)


@pytest.mark.parametrize(("schedule", "expected"), [("linear", 0.75), ("constant", 1.0), ("inverse-sqrt", (10 / 36) ** 0.5)])
def test_other_schedules(schedule: str, expected: float) -> None:
    """After a quarter of the way down."""
    plan = TrainingPlan(steps=110, warmup_steps=10, schedule=schedule)  # type: ignore[arg-type]
    assert rate_factor(plan, step=35, elapsed_s=0) == pytest.approx(expected)


def test_a_budget_brings_the_rate_down_before_the_steps_are_made() -> None:
    """Half of the time used up counts as half of the way, though few steps are made; at the end of the time the rate is zero."""
    plan = TrainingPlan(steps=10**6, warmup_steps=10, max_minutes=2)
    assert rate_factor(plan, step=20, elapsed_s=60) == pytest.approx(0.5)
    assert rate_factor(plan, step=20, elapsed_s=120) == pytest.approx(0)


def test_own_answers_begin_where_the_plan_says() -> None:
    """λ is zero before; half of the time used up counts as half of the way."""
    plan = TrainingPlan(steps=10, divergence=1.0, on_policy=0.3, on_policy_from=0.8, max_minutes=1)
    assert [on_policy_share(plan, step=step, elapsed_s=0) for step in (0, 7, 8, 9)] == [0.0, 0.0, 0.3, 0.3]
    assert [on_policy_share(plan, step=0, elapsed_s=seconds) for seconds in (47, 48)] == [0.0, 0.3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "expected steps of 1 or more, found 0"),
        ({"patience": 3}, "patience counts validations; give validate_every too"),
        ({"temperature": 0.0}, "expected a temperature above 0, found 0.0"),
        ({"on_policy_from": 1.0}, "expected on_policy_from of 0 or more and below 1, found 1.0"),
        ({"cross_entropy": 0.0}, "expected a weight above 0 for cross_entropy or divergence"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, float], message: str) -> None:
    """Each error names the setting."""
    with pytest.raises(RecipeError, match=message):
        TrainingPlan(**{"steps": 10, **wrong})  # type: ignore[arg-type]

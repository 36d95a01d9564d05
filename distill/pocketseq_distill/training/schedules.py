"""What changes over the course of a training: the learning rate, and the share of updates that are on-policy."""

from __future__ import annotations

import math

from pocketseq_distill.training.plan import TrainingPlan


def rate_factor(plan: TrainingPlan, *, step: int, elapsed_s: float) -> float:
    """Share of the peak learning rate at which an update is made.

    Progress counts time as well as steps, so that a training that a budget will end early has come down to a low rate by then,
    which is what its last and best updates need.

    Args:
        plan: The plan.
        step: Updates made so far.
        elapsed_s: Seconds of training so far.

    Returns:
        A factor from 0 to 1.
    """
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    if plan.schedule == "constant":
        return 1.0
    if plan.schedule == "inverse-sqrt":
        return math.sqrt(max(plan.warmup_steps, 1) / (step + 1))
    progress = _progress(plan, (step - plan.warmup_steps) / max(plan.steps - plan.warmup_steps, 1), elapsed_s)
    return 1.0 - progress if plan.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


def on_policy_share(plan: TrainingPlan, *, step: int, elapsed_s: float) -> float:
    """λ of an update: the plan's from where the plan begins with it, zero before.

    Args:
        plan: The plan.
        step: Updates made so far.
        elapsed_s: Seconds of training so far.
    """
    return plan.on_policy if _progress(plan, step / plan.steps, elapsed_s) >= plan.on_policy_from else 0.0


def _progress(plan: TrainingPlan, steps: float, elapsed_s: float) -> float:
    """The larger of the shares of steps and of time used up, 1 at most."""
    time = 0.0 if plan.max_minutes is None else elapsed_s / max(60 * plan.max_minutes, 1e-9)
    return min(max(steps, time), 1.0)

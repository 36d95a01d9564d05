"""Learning rates over the course of a training."""

from __future__ import annotations

import math

from pocketseq_distill.training.plan import TrainingPlan


def rate_factor(plan: TrainingPlan, *, step: int, elapsed_s: float) -> float:
    """Share of the peak learning rate at which an update is made.

    Progress is the larger of the shares of steps and of time used up, so that a training that a budget will end early has come
    down to a low rate by then, which is what its last and best updates need.

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
    progress = (step - plan.warmup_steps) / max(plan.steps - plan.warmup_steps, 1)
    if plan.max_minutes is not None:
        progress = max(progress, elapsed_s / (60 * plan.max_minutes))
    progress = min(progress, 1.0)
    return 1.0 - progress if plan.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))

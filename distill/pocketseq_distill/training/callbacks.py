"""What watches a training: its clock, its budget and the bar that people see."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from pocketseq_distill.training.averaging import WeightAverage
from pocketseq_distill.training.batches import GroupedOrder
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.processes import of_first


def is_over(plan: TrainingPlan, *, step: int, best_step: int | None, elapsed_s: float) -> bool:
    """Whether a training has come to its end: all updates made, the budget spent, or patience lost.

    Args:
        plan: Says how long it may go on.
        step: Updates made so far.
        best_step: Update of the best validation; None before the first.
        elapsed_s: Seconds of training so far.
    """
    spent = plan.max_minutes is not None and elapsed_s >= 60 * plan.max_minutes
    stalled = bool(best_step and plan.patience and plan.validate_every and step - best_step >= plan.patience * plan.validate_every)
    return step >= plan.steps or spent or stalled


class Clock(TrainerCallback, ExportableState):
    """Counts the seconds of training over all interrupted runs; saves by time and stops at the budget."""

    def __init__(self, plan: TrainingPlan, *, validates: bool) -> None:
        """Keep the time of a training.

        Args:
            plan: Its budget and how often it saves.
            validates: Whether its last update is followed by a validation.
        """
        self._plan = plan
        self._validates = validates
        self._before_s = 0.0
        self._begun = time.monotonic()
        self.agreed_s = 0.0
        """Seconds of training up to the last update, by the clock of the first process: the one that decides."""
        self._saved_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far."""
        return self._before_s + time.monotonic() - self._begun

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of the clock."""
        return {"args": {}, "attributes": {"elapsed_s": self.elapsed_s}}

    def on_train_begin(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Go on from the time that the checkpoint tells."""
        if state.global_step:
            self._before_s = elapsed_before(state)
        self._begun = time.monotonic()
        self.agreed_s = self._saved_s = self._before_s

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask for a checkpoint when one is due, and for the end when the budget is spent."""
        self.agreed_s = of_first(self.elapsed_s)
        if self.agreed_s - self._saved_s >= 60 * self._plan.save_every_minutes:
            control.should_save = True
        # Whether patience is lost, only the validation that may follow this update can tell.
        if is_over(self._plan, step=state.global_step, best_step=None, elapsed_s=self.agreed_s):
            control.should_training_stop = control.should_save = True
            control.should_evaluate = self._validates

    def on_save(self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the minutes to the next checkpoint from here, and end where the validation before it was one too many."""
        self._saved_s = self.agreed_s
        if is_over(self._plan, step=state.global_step, best_step=state.best_global_step, elapsed_s=self.agreed_s):
            control.should_training_stop = True


def elapsed_before(state: TrainerState) -> float:
    """Seconds of training up to a checkpoint, as the clock wrote them into it."""
    return float(state.stateful_callbacks[Clock.__name__]["attributes"]["elapsed_s"])


class Averaging(TrainerCallback):
    """Takes the weights of every update into their average."""

    def __init__(self, average: WeightAverage) -> None:
        """Keep an average.

        Args:
            average: The average of the model in training.
        """
        self._average = average

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Take in the update."""
        self._average.update(state.global_step)


class EpochOrder(TrainerCallback):
    """Has the order of rows follow the epochs, also where a training goes on in the middle of one.

    Where several processes share an epoch, what stands between them and the order passes that on at its beginning alone.
    """

    def __init__(self, order: GroupedOrder) -> None:
        """Lead an order.

        Args:
            order: What the batches are drawn by.
        """
        self._order = order

    def on_epoch_begin(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Choose the order of the epoch that this update belongs to."""
        self._order.set_epoch(state.global_step // self._order.updates)


class ProgressBar(TrainerCallback):
    """One bar on the standard error stream: updates, loss, validation and the time that is left."""

    def __init__(self, plan: TrainingPlan, clock: Clock) -> None:
        """Show a training.

        Args:
            plan: Its budget.
            clock: Its time.
        """
        self._plan = plan
        self._clock = clock
        self._shown: dict[str, str] = {}
        self._bar: Any = None
        self._first_step = 0
        self._first_s = 0.0

    def on_train_begin(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Open the bar where the training stands."""
        self._first_step, self._first_s = state.global_step, self._clock.elapsed_s
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="train",
            unit="update",
            bar_format="{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]",
            mininterval=0.5 if sys.stderr.isatty() else 30,
            dynamic_ncols=True,
        )

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        elapsed_s = self._clock.elapsed_s
        pace_s = (elapsed_s - self._first_s) / max(state.global_step - self._first_step, 1)
        left_s = pace_s * (state.max_steps - state.global_step)
        if self._plan.max_minutes is not None:
            left_s = max(min(left_s, 60 * self._plan.max_minutes - elapsed_s), 0.0)
        minutes, seconds = divmod(round(left_s), 60)
        self._bar.set_postfix({"left": f"{minutes}:{seconds:02d}", **self._shown}, refresh=False)
        self._bar.update(1)

    def on_log(self, _args: TrainingArguments, _state: TrainerState, _control: TrainerControl, **given: Any) -> None:
        """Show the newest figures beside the bar."""
        for name, value in given["logs"].items():
            if name == "loss" or (name.startswith("eval_") and isinstance(value, float)):
                self._shown[name.removeprefix("eval_")] = f"{value:.4g}"

    def on_train_end(self, _args: TrainingArguments, _state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        self._bar.close()

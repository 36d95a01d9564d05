"""Train a model from its rows to a finished checkpoint; killed at any moment, the same call goes on."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerState

from pocketseq.files import digest, write_json
from pocketseq_distill.console import quiet_transformers
from pocketseq_distill.losses.matching import LayerMap
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.training.callbacks import elapsed_before, is_over
from pocketseq_distill.training.mishaps import advice
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.processes import check_agreed, first_before_others
from pocketseq_distill.training.resumption import last_complete_checkpoint, load_result
from pocketseq_distill.training.trainer import DistillationTrainer, Validation

_COURSE_FILE = "course.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to; the model itself was changed in place."""

    steps: int
    """Updates made, interrupted runs included."""
    minutes: float
    """Time of training, interrupted runs included."""
    best: float | None
    """Best validation by the plan's ``judged_by``; None where there was no validation."""
    judged_by: str
    """Which measure that is."""
    history: tuple[dict[str, Any], ...]
    """Loss and validation by update, as the trainer logged them."""

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON values, with the validations of the history."""
        found = [{"step": entry["step"], **_validated(entry)} for entry in self.history if _validated(entry)]
        return {
            "steps": self.steps,
            "minutes": round(self.minutes, 2),
            f"best_validation_{self.judged_by}": self.best,
            "validations": found,
        }


def train(
    model: PreTrainedModel,
    rows: TokenRows,
    plan: TrainingPlan,
    *,
    state_dir: Path,
    teacher: PreTrainedModel | None = None,
    layers: LayerMap | None = None,
    validation: Validation | None = None,
    origin: str = "",
) -> Trained:
    """Train a model in place, resuming what an earlier call with the same arguments left in ``state_dir``.

    A longer plan goes on from a shorter one; another configuration, origin, rows or course start over, and say so.

    Args:
        model: The student as it starts; with validation it ends as its best checkpoint, otherwise as its last.
        rows: What it trains on.
        plan: How.
        state_dir: Where checkpoints go; the caller removes it when the trained model is safely written. Events for TensorBoard go
            beside it, those of each course into a folder of their own, and stay.
        teacher: Model of the same vocabulary for the KL term; None for plain training.
        layers: Which of the teacher's layers each of the student's is compared with, where states or attention are matched.
        validation: Measures the student as it trains.
        origin: Fingerprint of what the student's first weights come from, beside its configuration, its rows and the plan's seed,
            such as what it was cut out of, and how. Not of the weights themselves, whose last bits differ from one number of
            threads to another.

    Raises:
        CheckpointError: teacher and student differ in vocabulary.
        MissingExtraError: a tracker that is not installed.
        TrainingError: no rows, a loss that is not finite, memory that ran out, a full disk, or processes that share none.
    """
    trainer = DistillationTrainer(model, rows, plan, state_dir=state_dir, teacher=teacher, layers=layers, validation=validation)
    course = digest(
        {
            "plan": plan.course,
            "rows": rows.fingerprint,
            "model": json.loads(model.config.to_json_string()),
            "origin": origin,
        }
    )
    trainer.keep_events(state_dir.with_name(f"{state_dir.name.removesuffix('.training')}.tensorboard") / course[:8])
    with first_before_others():
        checkpoint = _resumable(state_dir, course)
    check_agreed(checkpoint.name if checkpoint else None, "checkpoint to go on from")
    with quiet_transformers(), advice(plan, state_dir):
        if checkpoint is not None:
            state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
            elapsed_s = elapsed_before(state)
            if is_over(plan, step=state.global_step, best_step=state.best_global_step, elapsed_s=elapsed_s):
                # By name: the run directory may have moved since the path of the best checkpoint was written down.
                best = state_dir / Path(state.best_model_checkpoint).name if state.best_model_checkpoint else checkpoint
                trainer.lesson.end()
                load_result(model, best)
                return _summary(state, elapsed_s, plan)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return _summary(trainer.state, trainer.clock.elapsed_s, plan)


def _validated(entry: Mapping[str, Any]) -> dict[str, float]:
    """What a validation found, by measure; empty for an entry of another kind."""
    return {name.removeprefix("eval_"): value for name, value in entry.items() if name.startswith("eval_")}


def _summary(state: TrainerState, elapsed_s: float, plan: TrainingPlan) -> Trained:
    return Trained(
        steps=state.global_step,
        minutes=elapsed_s / 60,
        best=None if state.best_metric is None else float(state.best_metric),
        judged_by=plan.judged_by,
        history=tuple(state.log_history),
    )


def _resumable(state_dir: Path, course: str) -> Path | None:
    """The checkpoint to go on from, if what lies there follows the same course; anything else is removed, and that is told."""
    file = state_dir / _COURSE_FILE
    try:
        same = json.loads(file.read_text(encoding="utf-8")) == {"course": course}
    except (OSError, ValueError):
        same = False
    if not same:
        if last_complete_checkpoint(state_dir) is not None:
            print(
                f"{state_dir}: what was trained there began from something else (a teacher, settings, rows, a plan or a version), "
                "and is removed; this training starts anew",
                file=sys.stderr,
            )
        shutil.rmtree(state_dir, ignore_errors=True)
        write_json(file, {"course": course})
    return last_complete_checkpoint(state_dir)

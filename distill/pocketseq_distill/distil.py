"""From a teacher and rows to a student on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from pocketseq.checkpoint import CheckpointCard
from pocketseq.examples import Example
from pocketseq.machine import processor
from pocketseq_distill.checkpoints import checkpoint_fingerprint, save_checkpoint
from pocketseq_distill.distributions import teacher_distributions
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.plan import TrainingPlan
from pocketseq_distill.rows import tokenize
from pocketseq_distill.students import StudentSettings, student_of
from pocketseq_distill.training import train
from pocketseq_distill.validation import ExactMatch


@dataclass(frozen=True, slots=True)
class Data:
    """What a student learns from."""

    train: Sequence[Example]
    """Rows to learn; ``target`` is the answer to learn, the teacher's or the reference."""
    validation: Sequence[Example]
    """Held-out rows with their references; empty where nothing is to be validated."""
    fingerprint: str
    """Digest of the corpus."""


def distil(
    teacher_path: Path,
    data: Data,
    output: Path,
    *,
    student: StudentSettings,
    plan: TrainingPlan,
    recipe_name: str = "",
    keep_state: bool = False,
) -> CheckpointCard:
    """Cut a student out of a teacher, train it and write it; killed at any moment, the same call goes on.

    Args:
        teacher_path: Checkpoint of the teacher.
        data: What to learn from.
        output: The student's directory to be; what a killed training needs stands beside it, in ``<output>.training`` and, with
            ``top_k``, ``<output>.distributions``.
        student: Which layers it has.
        plan: How it is trained.
        recipe_name: Named on the student's card.
        keep_state: Keep what a longer plan would go on from, instead of removing it at the end.

    Returns:
        The student's card.

    Raises:
        CheckpointError: no usable teacher.
        RecipeError: layers that the teacher does not have.
        TrainingError: no rows, or a loss that is not finite.
    """
    teacher = TeacherModel.load(teacher_path)
    tokenized = tokenize(
        data.train,
        teacher.card.template,
        teacher.tokenizer,
        end_id=int(teacher.model.config.eos_token_id),
        max_target_tokens=teacher.card.max_new_tokens,
    )
    model = student_of(teacher.model, student, tokenized.rows)
    origin = checkpoint_fingerprint(teacher_path)
    validation = data.validation[: plan.validation_rows]
    state_dir = output.with_name(f"{output.name}.training")
    rows, shards = tokenized.rows, output.with_name(f"{output.name}.distributions")
    beforehand = bool(plan.divergence and plan.top_k)
    if beforehand:
        assert plan.top_k is not None
        found = teacher_distributions(rows, lambda: teacher.model, shards, teacher_id=origin, top_k=plan.top_k, bf16=plan.bf16)
        rows = replace(rows, distributions=found)
    trained = train(
        model,
        rows,
        plan,
        state_dir=state_dir,
        teacher=teacher.model if plan.divergence and not beforehand else None,
        validation=ExactMatch(validation, teacher.tokenizer, teacher.card) if validation and plan.validate_every else None,
        origin=origin,
    )
    card = replace(
        teacher.card,
        teacher=origin,
        data={"fingerprint": data.fingerprint, "rows": len(tokenized.rows), **tokenized.left_out},
        recipe={"name": recipe_name, "student": asdict(student), "train": plan.to_json()},
        metrics={},
        training={**trained.to_json(), **hardware()},
    )
    save_checkpoint(model, output, card=card, tokenizer=teacher_path)
    if not keep_state:
        shutil.rmtree(state_dir, ignore_errors=True)
        shutil.rmtree(shards, ignore_errors=True)
    return card


def hardware() -> dict[str, str | int]:
    """What a training ran on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    return {"device": device, "cores": os.cpu_count() or 1, "threads": torch.get_num_threads()}

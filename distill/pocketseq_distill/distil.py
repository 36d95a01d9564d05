"""From a teacher and rows to a student on disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import TrainingError
from pocketseq.examples import Example, read_examples
from pocketseq.files import digest
from pocketseq.machine import processor
from pocketseq_distill.checkpoints import checkpoint_fingerprint, save_checkpoint
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.distributions import teacher_distributions
from pocketseq_distill.precision import has_bf16
from pocketseq_distill.reading import read_rows, student_as_read
from pocketseq_distill.rows import require_rows
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.students.student import layer_map
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.processes import first_before_others, is_first, joined, wait_for_all
from pocketseq_distill.training.rounding import tune_for_int8
from pocketseq_distill.training.validation import HeldOutAnswers, held_out


@dataclass(frozen=True, slots=True)
class Data:
    """What a student learns from."""

    train: Sequence[Example]
    """Rows to learn; ``target`` is the answer to learn, the teacher's or the reference."""
    validation: Sequence[Example]
    """Held-out rows with their references; empty where nothing is to be validated."""
    fingerprint: str
    """Digest of the corpus."""

    @classmethod
    def of_run(cls, run: Path, rows: str) -> Data:
        """The rows of a run that lie in its folder ``rows``, beside the validation rows of its corpus."""
        corpus = json.loads((run / "data/corpus.json").read_text(encoding="utf-8"))
        return cls(
            train=list(read_examples(run / rows / "train.jsonl")),
            validation=list(read_examples(run / "data/validation.jsonl")),
            fingerprint=str(corpus["fingerprint"]),
        )


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
        output: The student's directory to be; what a killed training needs stands beside it, in ``<output>.training``, with
            ``top_k`` in ``<output>.distributions``, and with a vocabulary of its own in ``<output>.tokenizer``.
        student: Which layers it has, or which shape.
        plan: How it is trained.
        recipe_name: Named on the student's card.
        keep_state: Keep what a longer plan would go on from, instead of removing it at the end.

    Returns:
        The student's card.

    Raises:
        CheckpointError: no usable teacher.
        DataError: every validation row is trained on.
        RecipeError: a student that the teacher does not allow for, or losses that do not go with it.
        TrainingError: no rows, none to validate on where ``int8_steps`` need them, or a loss that is not finite.
    """
    joined()  # before the teacher takes a device
    teacher = TeacherModel.load(teacher_path)
    own_tokenizer = output.with_name(f"{output.name}.tokenizer")
    with first_before_others():
        reading = read_rows(teacher, teacher_path, data.train, own_tokenizer, student=student, plan=plan)
    if is_first():
        reading.tokenized.tell()
    rows = reading.tokenized.rows
    require_rows(rows)  # before a teacher is asked about them
    model = student_as_read(teacher.model, student, reading, seed=plan.seed)
    origin = checkpoint_fingerprint(teacher_path)
    validation = held_out(data.validation, data.train)[: plan.validation_rows]
    measure = HeldOutAnswers(validation, reading.tokenizer, reading.card) if validation and plan.validate_every else None
    if plan.int8_steps and measure is None:  # before a training whose end they are
        raise TrainingError("expected rows to validate on, by which int8_steps are kept or not, found none; give some")
    state_dir = output.with_name(f"{output.name}.training")
    shards = output.with_name(f"{output.name}.distributions")
    beforehand = bool(plan.divergence and plan.top_k)
    if beforehand:
        assert plan.top_k is not None
        found = teacher_distributions(rows, lambda: teacher.model, shards, teacher_id=origin, top_k=plan.top_k, bf16=plan.bf16)
        rows = replace(rows, distributions=found)
    matches = bool(plan.hidden or plan.attention)
    asked = teacher.model if matches or (plan.divergence and not beforehand) else None
    layers = layer_map(teacher.model, student) if matches else None
    trained = train(
        model,
        rows,
        plan,
        state_dir=state_dir,
        teacher=asked,
        layers=layers,
        validation=measure,
        origin=beginning(origin, student),
    )
    training: dict[str, Any] = {**trained.to_json(), **hardware(bf16=plan.bf16)}
    if plan.int8_steps:
        assert measure is not None
        int8_dir = output.with_name(f"{output.name}.int8")
        verdict = tune_for_int8(model, rows, plan, state_dir=int8_dir, validation=measure, teacher=asked, layers=layers)
        training["int8"] = verdict.to_json()
    card = replace(
        reading.card,
        teacher=origin,
        data={"fingerprint": data.fingerprint, "rows": len(rows), **reading.tokenized.counts},
        recipe={"name": recipe_name, "student": asdict(student), "train": plan.to_json()},
        metrics={},
        training=training,
    )
    if is_first():
        save_checkpoint(model, output, card=card, tokenizer=reading.folder)
        if not keep_state:
            for folder in (state_dir, shards, own_tokenizer):
                shutil.rmtree(folder, ignore_errors=True)
    wait_for_all()
    return card


def beginning(teacher_id: str, student: StudentSettings) -> str:
    """Fingerprint of what a student's first weights come from, as the ``origin`` of its training.

    Args:
        teacher_id: Fingerprint of the teacher.
        student: What is made of it.
    """
    return digest({"teacher": teacher_id, "student": asdict(student)})


def hardware(*, bf16: bool) -> dict[str, str | int]:
    """What a training ran on, in which precision it computed where it could choose, and threads where they did the work."""
    on_gpu = torch.cuda.is_available()
    found: dict[str, str | int] = {
        "device": torch.cuda.get_device_name() if on_gpu else processor(),
        "precision": "bfloat16" if bf16 and has_bf16("cuda" if on_gpu else "cpu") else "float32",
        "cores": os.cpu_count() or 1,
    }
    return found if on_gpu else {**found, "threads": torch.get_num_threads()}

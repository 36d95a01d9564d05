"""Measure where a finished run lost quality between its teacher and its student."""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketseq import PocketModel
from pocketseq.bundle import open_bundle
from pocketseq.calibration.measures import Interval
from pocketseq.errors import CheckpointError, DataError, RuntimeUnavailableError
from pocketseq.examples import Example, read_examples
from pocketseq.records import read_record
from pocketseq_distill.attribution.findings import Finding, Gap, share
from pocketseq_distill.console import quiet_transformers
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.rows import TokenRows, tokenize
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan

Right = NDArray[np.bool_]

_RATE: Final = 0.3
"""Peak learning rate of the further updates, in units of the training's: theirs is the end of a training, not its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapSettings:
    """How much is measured."""

    rows: int = 400
    """Held-out rows, from the start of the validation split."""
    updates: int = 60
    """Further updates of each of the trainings that are compared."""
    subset: int = 64
    """Training rows that teacher and student learn by heart, for the capacity."""
    subset_updates: int = 120
    """Updates that they have for it."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What the measurements share."""

    directory: Path
    teacher: TeacherModel
    student: TeacherModel
    plan: TrainingPlan
    held_out: list[Example]
    learnt: list[Example]
    references: list[Example]
    settings: GapSettings

    def right(self, model: TeacherModel, examples: Sequence[Example]) -> Right:
        answers = model.answer([example.fields for example in examples], batch_size=64)
        return np.array([answer.text == example.target for answer, example in zip(answers, examples, strict=True)], dtype=bool)

    def with_weights(self, source: TeacherModel, examples: Sequence[Example], plan: TrainingPlan) -> TeacherModel:
        """A copy of a model after further training on examples."""
        model = copy.deepcopy(source.model).requires_grad_(True)  # a teacher that was asked in an earlier training is frozen
        teaches = plan.divergence > 0 and source.model.config.vocab_size == self.teacher.model.config.vocab_size
        with tempfile.TemporaryDirectory() as folder, quiet_transformers():
            teacher = self.teacher.model if teaches else None
            train(model, self.tokens(source, examples), plan, state_dir=Path(folder), teacher=teacher)
        return TeacherModel(model.eval(), source.tokenizer, source.card)

    def tokens(self, model: TeacherModel, examples: Sequence[Example]) -> TokenRows:
        end_id, longest = int(model.model.config.eos_token_id), model.card.max_new_tokens
        return tokenize(examples, model.card.template, model.tokenizer, end_id=end_id, max_target_tokens=longest).rows


def attribute_gap(directory: Path, settings: GapSettings | None = None) -> Gap:
    """Measure each cause of the gap between the teacher and the student of a run, one at a time.

    Args:
        directory: A run directory after its training; with a bundle, its variants are measured too.
        settings: How much to measure.

    Raises:
        CheckpointError: the run has no teacher or no student, or a student whose card tells no plan.
        DataError: the run has no rows to measure on.
    """
    run = _read(directory, settings or GapSettings())
    _say(f"teacher and student on {len(run.held_out)} rows")
    teacher, student = (run.right(model, run.held_out) for model in (run.teacher, run.student))
    findings = [_vocabulary(run, teacher, student)]
    further = replace(
        run.plan,
        steps=run.settings.updates,
        learning_rate=_RATE * run.plan.learning_rate,
        warmup_steps=min(run.plan.warmup_steps, run.settings.updates // 10),
        schedule="linear",
        frozen_encoder_steps=0,
        max_minutes=None,
        validate_every=None,
        patience=None,
        int8_steps=0,
        on_policy=0.0,
        top_k=None,
        hidden=0.0,
        attention=0.0,
        spans=0.0,
        report_to=(),
    )
    if not run.plan.cross_entropy:
        further = replace(further, cross_entropy=1.0)
    _say(f"further {run.settings.updates} updates on the same labels")
    longer = run.right(run.with_weights(run.student, run.learnt, further), run.held_out)
    findings.append(_labels(run, further, longer))
    findings += _training(run, student, longer)
    findings.append(_capacity(run, further))
    findings += _quantization(run, student)
    return Gap(
        rows=len(run.held_out),
        teacher=share(teacher.astype(float)),
        student=share(student.astype(float)),
        gap=share(teacher.astype(float) - student),
        findings=tuple(findings),
    )


def _read(directory: Path, settings: GapSettings) -> _Run:
    files = {name: directory / name for name in ("data/validation.jsonl", "data/train.jsonl", "filtered/train.jsonl")}
    for path in files.values():
        if not path.is_file():
            raise DataError(f"{path}: expected the rows of a run after its training, found none; run the recipe first")
    held_out, references, learnt = (list(read_examples(path)) for path in files.values())
    if not held_out:
        raise DataError(f"{directory}/data/validation.jsonl: expected held-out rows, found none")
    student = TeacherModel.load(directory / "student")
    if "train" not in student.card.recipe:
        raise CheckpointError(
            f"{directory}/student: expected the plan of its training on its card, found none; train it with this tool"
        )
    plan = json.loads(json.dumps(student.card.recipe["train"]))
    return _Run(
        directory=directory,
        teacher=TeacherModel.load(directory / "teacher"),
        student=student,
        plan=read_record(TrainingPlan, plan, where=f"{directory}/student", error=CheckpointError),
        held_out=held_out[: settings.rows],
        learnt=learnt,
        references=references,
        settings=settings,
    )


def _vocabulary(run: _Run, teacher: Right, student: Right) -> Finding:
    """Rows that the student's tokens cannot answer."""
    beyond = ~np.array([_can_say(run.student, example) for example in run.held_out], dtype=bool)
    return Finding(
        cause="vocabulary",
        name=f"{int(beyond.sum())} answers beyond its tokens",
        lost=share((teacher & ~student & beyond).astype(float)),
        rows=len(run.held_out),
        controls="rows that the teacher answers and whose answer the student's tokens cannot spell, or not in its longest answer",
    )


def _can_say(model: TeacherModel, example: Example) -> bool:
    template = model.card.template
    encoded = template.encode(model.tokenizer, example.fields)
    ids = template.encode_target(model.tokenizer, encoded, example.target)
    if ids is None or len(ids) >= model.card.max_new_tokens:
        return False
    return template.decode(model.tokenizer, ids, encoded) == example.target


def _labels(run: _Run, plan: TrainingPlan, longer: Right) -> Finding:
    """Further updates on references against as many on the labels."""
    truth = {example.id: example.target for example in run.references}
    corrected = [replace(example, target=truth.get(example.id, example.target)) for example in run.learnt]
    differing = sum(one.target != other.target for one, other in zip(run.learnt, corrected, strict=True))
    name = f"{differing / max(len(run.learnt), 1):.1%} of labels differ"
    if not differing:
        controls = f"none of the {len(run.learnt)} labels differs from its reference: there is nothing to vary"
        return Finding("labels", name, share(np.zeros(len(run.held_out))), len(run.learnt), controls)
    _say(f"further {plan.steps} updates on references")
    # What the teacher says along the way would teach its mistakes again.
    alone = replace(plan, divergence=0.0, cross_entropy=plan.cross_entropy + plan.divergence)
    on_references = run.right(run.with_weights(run.student, corrected, alone), run.held_out)
    on_labels = longer if not plan.divergence else run.right(run.with_weights(run.student, run.learnt, alone), run.held_out)
    return Finding(
        cause="labels",
        name=name,
        lost=share(on_references.astype(float) - on_labels),
        rows=len(run.held_out),
        controls=f"{plan.steps} further updates on the same inputs in the same order: references against labels, no teacher beside",
    )


def _training(run: _Run, student: Right, longer: Right) -> Iterator[Finding]:
    """What further updates give, and what is known of training rows and not of others."""
    steps = int(run.student.card.training.get("steps", 0))
    gained = share(longer.astype(float) - student)
    doubled = (
        f"; as steadily, twice the training would give {100 * gained.value * steps / run.settings.updates:+.1f}" if steps else ""
    )
    yield Finding(
        cause="training",
        name=f"{run.settings.updates} further updates give",
        lost=gained,
        rows=len(run.held_out),
        controls=f"the student against itself after further updates of the same plan, at {_RATE:g} of its learning rate{doubled}",
    )
    seen = run.right(run.student, run.learnt[: len(run.held_out)])
    learnt, held_out = share(seen.astype(float)), share(student.astype(float))
    yield Finding(
        cause="training",
        name="learnt rows against held-out",
        lost=None,
        rows=len(seen),
        controls=f"exact match {_range(learnt)} on labels that it learnt, {_range(held_out)} on held-out rows; no loss of its own: "
        "far apart asks for more or other rows, close together for time or capacity",
    )


def _capacity(run: _Run, plan: TrainingPlan) -> Finding:
    """Teacher and student learn the same few rows by heart."""
    subset = run.references[: run.settings.subset]
    by_heart = replace(
        plan,
        steps=run.settings.subset_updates,
        batch_size=min(plan.batch_size, len(subset)),
        accumulation=1,
        divergence=0.0,
        doubt=0.0,
        cross_entropy=1.0,
        label_smoothing=0.0,
    )
    _say(f"teacher and student learn {len(subset)} rows by heart")
    held = [run.right(run.with_weights(model, subset, by_heart), subset).astype(float) for model in (run.teacher, run.student)]
    return Finding(
        cause="capacity",
        name=f"{len(subset)} rows learnt by heart",
        lost=share(held[0] - held[1]),
        rows=len(subset),
        controls=f"both see the same rows {by_heart.steps} times over; then the teacher knows {held[0].mean():.1%} of them and the "
        f"student {held[1].mean():.1%}: of these rows, not of held-out ones",
    )


def _quantization(run: _Run, student: Right) -> Iterator[Finding]:
    """Every variant of the bundle against the checkpoint that it was made from."""
    bundle = run.directory / "bundle"
    if not bundle.exists():
        yield Finding("quantization", "no bundle", None, 0, "the run has exported nothing yet")
        return
    with open_bundle(bundle) as opened:
        variants = [(variant.runtime, variant.precision) for variant in opened.manifest.variants]
    for runtime, precision in variants:
        name = f"{runtime}/{precision}"
        try:
            model = PocketModel.load(bundle, runtime=runtime, precision=precision)
        except RuntimeUnavailableError as error:
            yield Finding("quantization", name, None, 0, str(error))
            continue
        with model:
            _say(f"{name} on {len(run.held_out)} rows")
            answers = [model.generate(example.fields).text for example in run.held_out]
        right = np.array([answer == example.target for answer, example in zip(answers, run.held_out, strict=True)], dtype=bool)
        lost = share(student.astype(float) - right)
        yield Finding("quantization", name, lost, len(right), "the checkpoint against this variant on the same rows, one at a time")


def _range(value: Interval) -> str:
    return f"{100 * value.value:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _say(words: str) -> None:
    print(f"gap: {words}", file=sys.stderr)

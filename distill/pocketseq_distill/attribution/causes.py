"""One controlled measurement for each cause of a gap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from pocketseq import PocketModel
from pocketseq.bundle import open_bundle
from pocketseq.calibration.measures import Interval
from pocketseq.errors import RuntimeUnavailableError
from pocketseq.examples import Example
from pocketseq_distill.attribution.findings import Finding, share
from pocketseq_distill.attribution.run import GapRun, Scores, say
from pocketseq_distill.ensemble import foundation
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.labels import source_digest
from pocketseq_distill.special_ids import SpecialIds
from pocketseq_distill.training.plan import TrainingPlan

_RATE: Final = 0.3
"""Peak learning rate of the further updates, in units of the training's: theirs is the end of a training, not its beginning."""


def further_plan(run: GapRun) -> TrainingPlan:
    """The student's plan for a few updates more, without what would take them to begin."""
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
    return further if run.plan.cross_entropy else replace(further, cross_entropy=1.0)


def vocabulary(run: GapRun, teacher: Scores, student: Scores) -> Finding:
    """Rows that the student's tokens cannot answer."""
    beyond = ~np.array([_can_say(run.student, example) for example in run.held_out], dtype=bool)
    return Finding(
        cause="vocabulary",
        name=f"{int(beyond.sum())} answers beyond its tokens",
        lost=share(np.maximum(teacher - student, 0.0) * beyond),
        rows=len(run.held_out),
        controls="rows that the teacher answers and whose answer the student's tokens cannot spell, or not in its longest answer",
    )


def _can_say(model: TeacherModel, example: Example) -> bool:
    template = model.card.template
    encoded = template.encode(model.tokenizer, example.fields)
    ids = template.encode_target(model.tokenizer, encoded, example.target)
    given = SpecialIds.of(model.model).given
    if ids is None or len(given) + len(ids) >= model.card.max_new_tokens:
        return False
    return template.decode(model.tokenizer, ids, encoded) == example.target


def labels(run: GapRun, plan: TrainingPlan, longer: Scores) -> Iterator[Finding]:
    """Further updates on references against as many on the labels, and on labels alone against the teacher's word beside them."""
    truth = _truth(run)
    corrected = [row if target is None else replace(row, target=target) for row, target in zip(run.learnt, truth, strict=True)]
    differing = sum(one.target != other.target for one, other in zip(run.learnt, corrected, strict=True))
    referenced = sum(target is not None for target in truth)
    name = f"{differing / max(referenced, 1):.1%} of labels differ"
    # What the teacher says along the way would teach its mistakes again.
    alone = replace(plan, divergence=0.0, cross_entropy=plan.cross_entropy + plan.divergence)
    on_labels = longer
    if plan.divergence:
        say(f"further {plan.steps} updates on the same labels, without the teacher")
        on_labels = run.judge(run.with_weights(run.student, run.learnt, alone), run.held_out)
        controls = (
            f"{plan.steps} further updates on the same labels in the same order: alone against the teacher's distribution beside"
        )
        yield Finding("labels", "the teacher's distribution", share(on_labels - longer), len(run.held_out), controls)
    if not differing:
        controls = f"none of the {referenced:,} labels differs from its reference: there is nothing to vary"
        yield Finding("labels", name, share(np.zeros(len(run.held_out))), len(run.held_out), controls)
        return
    say(f"further {plan.steps} updates on references")
    on_references = run.judge(run.with_weights(run.student, corrected, alone), run.held_out)
    controls = f"{plan.steps} further updates on the same inputs in the same order: references against labels, no teacher beside"
    yield Finding("labels", name, share(on_references - on_labels), len(run.held_out), controls)


def _truth(run: GapRun) -> list[str | None]:
    """The reference of each learnt row; None for an imagined input, which has none.

    A row's further answers are learnt under ids of their own, so that they are known by the input that they answer.
    """
    by_id = {row.id: row.target for row in run.references}
    by_input = {source_digest(row): row.target for row in run.references}
    return [by_id.get(row.id, by_input.get(source_digest(row))) for row in run.learnt]


def training(run: GapRun, student: Scores, longer: Scores) -> Iterator[Finding]:
    """What further updates give, and what is known of training rows and not of others."""
    yield Finding(
        cause="training",
        name=f"{run.settings.updates} further updates give",
        lost=share(longer - student),
        rows=len(run.held_out),
        controls=f"the student against itself after further updates of the same plan, at {_RATE:g} of its learning rate",
    )
    seen = run.judge(run.student, run.learnt[: len(run.held_out)])
    yield Finding(
        cause="training",
        name="learnt rows against held-out",
        lost=None,
        rows=len(seen),
        controls=f"{_range(share(seen))} on labels that it learnt, {_range(share(student))} on held-out rows; no loss of its own: "
        "far apart asks for more or other rows, close together for time or capacity",
    )


def capacity(run: GapRun, plan: TrainingPlan) -> Finding:
    """Teacher, or an ensemble's first member, and student learn the same few rows by heart."""
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
    # Members learn one by one: an average has no output layer of its own to train, and the student was cut from the first.
    teacher = TeacherModel(foundation(run.teacher.model), run.teacher.tokenizer, run.teacher.card)
    name = "teacher" if teacher.model is run.teacher.model else "teacher's first member"
    say(f"{name} and student learn {len(subset)} rows by heart")
    held = [run.judge(run.with_weights(model, subset, by_heart), subset) for model in (teacher, run.student)]
    return Finding(
        cause="capacity",
        name=f"{len(subset)} rows learnt by heart",
        lost=share(held[0] - held[1]),
        rows=len(subset),
        controls=f"both see the same rows {by_heart.steps} times over; then the {name} knows {held[0].mean():.1%} of them and the "
        f"student {held[1].mean():.1%}: of these rows, not of held-out ones",
    )


def quantization(run: GapRun, student: Scores) -> Iterator[Finding]:
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
            say(f"{name} on {len(run.held_out)} rows")
            answers = [model.generate(example.fields).text for example in run.held_out]
        lost = share(student - run.scores(answers, run.held_out))
        controls = "the checkpoint against this variant on the same rows, one at a time"
        yield Finding("quantization", name, lost, len(run.held_out), controls)


def _range(value: Interval) -> str:
    return f"{100 * value.value:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"

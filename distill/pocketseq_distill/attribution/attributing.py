"""Measure where a finished run lost quality between its teacher and its student."""

from __future__ import annotations

from pathlib import Path

from pocketseq.checkpoint import weights_fingerprint
from pocketseq.pipeline import Recipe
from pocketseq_distill.attribution.causes import capacity, further_plan, labels, quantization, training, vocabulary
from pocketseq_distill.attribution.courses import course_of
from pocketseq_distill.attribution.findings import Gap, share
from pocketseq_distill.attribution.run import GapSettings, read_run, say
from pocketseq_distill.teacher import TeacherSettings


def attribute_gap(directory: Path, settings: GapSettings | None = None) -> Gap:
    """Measure each cause of the gap between the teacher and the student of a run, one at a time.

    Args:
        directory: A run directory after its training; with a bundle, its variants are measured too.
        settings: How much to measure.

    Raises:
        CheckpointError: the run has no teacher or no student, or a student whose card tells no plan.
        DataError: the run has no rows to measure on.
    """
    run = read_run(directory, settings or GapSettings())
    say(f"teacher and student on {len(run.held_out)} rows")
    teacher, student = (run.judge(model, run.held_out) for model in (run.teacher, run.student))
    findings = [vocabulary(run, teacher, student)]
    courses = (course_of("teacher", run.teacher.card), course_of("student", run.student.card))
    plan = further_plan(run)
    say(f"further {run.settings.updates} updates on the same labels")
    longer = run.judge(run.with_weights(run.student, run.learnt, plan), run.held_out)
    findings += labels(run, plan, longer)
    findings += training(run, student, longer)
    findings.append(capacity(run, plan))
    findings += quantization(run, student)
    return Gap(
        rows=len(run.held_out),
        measure=run.plan.judged_by,
        teacher=share(teacher),
        student=share(student),
        gap=share(teacher - student),
        findings=tuple(findings),
        courses=tuple(course for course in courses if course is not None),
        note=_note(directory),
        weights={name: weights_fingerprint(directory / name) for name in ("teacher", "student")},
    )


def _note(directory: Path) -> str:
    """What the teacher is, where the one that labelled does not stand in the run."""
    path = directory / "recipe.toml"
    if not path.is_file() or not Recipe.read(path).settings("teacher", TeacherSettings).through_text:
        return ""
    return "the teacher here is the model that the student was cut from; the one that labelled answers through text"

"""Where the quality between teacher and student is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pocketseq.calibration.measures import Interval
from pocketseq.checkpoint import CheckpointCard, weights_fingerprint
from pocketseq.cli import main
from pocketseq.errors import CheckpointError, DataError, RecipeError
from pocketseq.examples import read_examples, write_examples
from pocketseq.files import write_json
from pocketseq_distill.attribution import Cause, Course, Finding, Gap, GapSettings, attribute_gap, causes
from pocketseq_distill.attribution.courses import course_of
from pocketseq_distill.attribution.findings import share, table
from pocketseq_distill.attribution.run import read_run
from pocketseq_distill.distil import Data, distil
from pocketseq_distill.ensemble import write_ensemble
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.teacher import TeacherSettings
from pocketseq_distill.teaching import train_teacher
from pocketseq_distill.training.plan import TrainingPlan

from .models import TEMPLATE, repair_examples

SETTINGS = GapSettings(rows=24, updates=20, subset=8, subset_updates=60)
PLAN = TrainingPlan(steps=120, batch_size=16, warmup_steps=5, optimizer="muon", learning_rate=1e-2, bf16=False)
TEACHER = TeacherSettings(vocab_size=360, d_model=32, d_ff=64, heads=4, encoder_layers=2, decoder_layers=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a teacher that knows its task a little, and a student of it that has hardly been trained, on labels half wrong."""
    run = tmp_path_factory.mktemp("gap")
    rows = repair_examples(200)
    card = CheckpointCard(task="repair", template=TEMPLATE, max_new_tokens=8)
    train_teacher(Data(rows, [], "f"), run / "teacher", card=card, settings=TEACHER, plan=PLAN)
    labels = [replace(row, target=row.fields["line"]) if place % 2 else row for place, row in enumerate(rows)]
    student = StudentSettings(encoder_layers=1, decoder_layers=1)
    distil(run / "teacher", Data(labels, [], "f"), run / "student", student=student, plan=replace(PLAN, steps=2))
    write_examples(run / "data/train.jsonl", rows)
    write_examples(run / "filtered/train.jsonl", labels)
    write_examples(run / "data/validation.jsonl", repair_examples(40, seed=3))
    shutil.rmtree(run / "teacher.training")
    return run


@pytest.fixture(scope="module")
def gap(trained: Path) -> Gap:
    """What its measurements come to."""
    return attribute_gap(trained, SETTINGS)


def of(gap: Gap, cause: Cause) -> Finding:
    return next(finding for finding in gap.findings if finding.cause == cause)


def test_the_gap_is_the_teachers_lead_on_the_same_rows(gap: Gap) -> None:
    """Row by row, so that its interval knows which rows both have in common."""
    assert gap.rows == 24
    assert gap.gap.value == pytest.approx(gap.teacher.value - gap.student.value)
    assert gap.gap.low <= gap.gap.value <= gap.gap.high


def test_the_gap_tells_whose_it_is(gap: Gap, trained: Path) -> None:
    """A report that finds other weights in the run leaves it out."""
    assert gap.weights == {name: weights_fingerprint(trained / name) for name in ("teacher", "student")}


def test_every_cause_has_its_measurement(gap: Gap) -> None:
    """With counted rows, an interval around the value, and what was held fixed."""
    assert {finding.cause for finding in gap.findings} == {"vocabulary", "labels", "training", "capacity", "quantization"}
    for finding in gap.findings:
        assert finding.controls
        if finding.lost is not None:
            assert finding.rows > 0
            assert finding.lost.low <= finding.lost.value <= finding.lost.high


def test_wrong_labels_are_counted(gap: Gap, trained: Path) -> None:
    """Those that differ from their reference, as a share of what was learnt."""
    pairs = zip(*(read_examples(trained / name) for name in ("data/train.jsonl", "filtered/train.jsonl")), strict=True)
    differing = sum(one.target != other.target for one, other in pairs)
    assert differing == 50
    assert of(gap, "labels").name == f"{differing / 200:.1%} of labels differ"


def test_a_teacher_learns_by_heart_what_its_student_does(gap: Gap) -> None:
    """Both get the same rows and updates; the sentence tells how far each came."""
    capacity = of(gap, "capacity")
    assert capacity.rows == 8
    assert "60 times over" in capacity.controls


def test_of_an_ensemble_the_first_member_learns_by_heart(trained: Path, tmp_path: Path) -> None:
    """As well as it would alone: an average has no output layer that could be trained."""
    run = shutil.copytree(trained, tmp_path / "run")
    write_ensemble([trained / "teacher", trained / "teacher"], run / "teacher")
    measured = []
    for folder in (trained, run):
        opened = read_run(folder, replace(SETTINGS, subset=4, subset_updates=20))
        measured.append(causes.capacity(opened, causes.further_plan(opened)))
    single, ensemble = measured
    assert ensemble.lost == single.lost
    assert ensemble.controls == single.controls.replace("the teacher knows", "the teacher's first member knows")


def test_rows_are_learnt_behind_what_a_model_is_made_to_say(trained: Path, tmp_path: Path) -> None:
    """It takes its place in the longest answer, too."""
    run = shutil.copytree(trained, tmp_path / "run")
    file = run / "student/generation_config.json"
    write_json(file, {**json.loads(file.read_text()), "forced_bos_token_id": 9})
    opened = read_run(run, SETTINGS)
    rows = opened.tokens(opened.student, opened.references[:8])
    assert len(rows)
    assert all(rows[place]["labels"][0] == 9 for place in range(len(rows)))
    beyond = [int(causes.vocabulary(read_run(path, SETTINGS), np.ones(24), np.ones(24)).name.split()[0]) for path in (trained, run)]
    longest = read_run(trained, SETTINGS).student.card.max_new_tokens
    at_the_limit = sum(
        len(row["labels"]) == longest for row in map(opened.tokens(opened.teacher, opened.held_out).__getitem__, range(24))
    )
    assert at_the_limit == beyond[1] - beyond[0]


def test_without_a_bundle_nothing_is_said_of_quantization(gap: Gap) -> None:
    """And that is said."""
    assert of(gap, "quantization").lost is None
    assert of(gap, "quantization").controls == "the run has exported nothing yet"


def test_labels_without_a_mistake_cost_nothing(trained: Path, tmp_path: Path) -> None:
    """There is nothing to vary, and nothing is trained for it."""
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.copy(run / "data/train.jsonl", run / "filtered/train.jsonl")
    labels = of(attribute_gap(run, replace(SETTINGS, updates=1, subset_updates=1)), "labels")
    assert labels.lost == Interval(0.0, 0.0, 0.0)
    assert "none of the 200 labels differs" in labels.controls


def test_answers_beyond_the_vocabulary_are_counted(trained: Path, tmp_path: Path) -> None:
    """An answer that is longer than the longest that the student may give cannot be given."""
    run = shutil.copytree(trained, tmp_path / "run")
    card = CheckpointCard.read(run / "student")
    replace(card, max_new_tokens=3).write(run / "student")
    vocabulary = of(attribute_gap(run, replace(SETTINGS, updates=1, subset_updates=1)), "vocabulary")
    assert int(vocabulary.name.split()[0]) > 12
    assert vocabulary.lost is not None


def test_a_teacher_that_was_asked_along_the_way_learns_all_the_same(trained: Path, tmp_path: Path) -> None:
    """A plan with a divergence freezes the teacher while it is asked; learning by heart comes after that, and moves it."""
    run = shutil.copytree(trained, tmp_path / "run")
    card = CheckpointCard.read(run / "student")
    plan = {**card.recipe["train"], "divergence": 1.0}
    replace(card, recipe={**card.recipe, "train": plan}).write(run / "student")
    measured = attribute_gap(run, replace(SETTINGS, updates=1, subset=4, subset_updates=1))
    assert "both see the same rows 1 times over" in of(measured, "capacity").controls
    assert of(measured, "labels").name == "the teacher's distribution"


def test_a_task_by_degree_is_measured_by_its_degree(trained: Path, tmp_path: Path) -> None:
    """Where a training was judged by chrF, answers that are nearly right count for what they are worth."""
    run = shutil.copytree(trained, tmp_path / "run")
    card = CheckpointCard.read(run / "student")
    replace(card, recipe={**card.recipe, "train": {**card.recipe["train"], "judged_by": "chrf"}}).write(run / "student")
    measured = attribute_gap(run, replace(SETTINGS, updates=1, subset=4, subset_updates=1))
    assert measured.measure == "chrf"
    assert measured.student.value * measured.rows % 1  # no share of right answers
    assert "on 24 held-out rows, chrF:" in list(table(measured))


def test_a_teacher_through_text_is_said_not_to_stand_in_the_run(trained: Path, tmp_path: Path) -> None:
    """What is measured there is what the student was cut from."""
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "recipe.toml").write_text('[recipe]\nname = "own"\ntask = "own"\nformat = 1\n[teacher]\nfunction = "my:teacher"\n')
    measured = attribute_gap(run, replace(SETTINGS, updates=1, subset=4, subset_updates=1))
    assert "the teacher here is the model that the student was cut from" in "\n".join(table(measured))


def test_what_is_unfinished_is_to_be_finished_first() -> None:
    """Before that nothing tells how large a student has to be; of a student that is as good as its teacher, the teacher."""
    some = Interval(0.2, 0.1, 0.3)
    rising = [Course(name, steps=900, by_clock=False, rise=0.05, measure="exact_match") for name in ("teacher", "student")]
    gap = Gap(10, "exact_match", some, some, some, (finding("capacity", 0.1, 0.2),), courses=tuple(rising))
    assert gap.advice == (
        "train the teacher and student longer first: the teacher made 900 updates, gained 5.0 points of validation in the last "
        "third of them; the student made 900 updates, gained 5.0 points of validation in the last third of them; then take a "
        "larger student: this one cannot hold what the teacher's shape holds of the same rows"
    )
    level = replace(gap, gap=Interval(0.0, -0.1, 0.1))
    assert level.advice.startswith(
        "the student is as good as its teacher on these rows, as far as they can tell; train the teacher"
    )
    assert "student made" not in level.advice


def test_a_card_tells_how_far_its_training_went(trained: Path) -> None:
    """What the last third gained over what came before, and whether the clock ended it; without validations only the latter."""
    card = CheckpointCard.read(trained / "student")
    found = [{"step": step, "exact_match": value} for step, value in ((30, 0.1), (60, 0.3), (90, 0.35))]
    course = course_of("student", replace(card, training={"steps": 90, "minutes": 4.0, "validations": found}))
    assert course is not None
    assert course.rise == pytest.approx(0.05)
    assert course.is_unfinished
    flat = course_of("student", replace(card, training={"steps": 90, "validations": [*found[:2], {**found[1], "step": 90}]}))
    assert flat is not None
    assert not flat.is_unfinished
    plan = {**card.recipe["train"], "max_minutes": 4.0}
    clocked = course_of("student", replace(card, recipe={"train": plan}, training={"steps": 90, "minutes": 3.99}))
    assert str(clocked) == "the student made 90 updates, was ended by the clock"
    assert course_of("teacher", replace(card, training={})) is None


def test_the_command_writes_and_prints(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people, ``gap.json`` beside the run's other results."""
    arguments = ["--rows", "8", "--updates", "1", "--subset", "4", "--subset-updates", "1"]
    assert main(["gap", str(trained), *arguments]) == 0
    printed = capsys.readouterr().out
    written = json.loads((trained / "gap.json").read_text())
    assert written["rows"] == 8
    assert f"next: {written['advice']}" in printed
    (trained / "gap.json").unlink()


def test_a_run_without_rows_or_plan_is_refused(trained: Path, tmp_path: Path) -> None:
    """The error names the file and what to do."""
    with pytest.raises(DataError, match=r"validation\.jsonl: expected the rows of a run after its training, found none"):
        attribute_gap(tmp_path)
    run = shutil.copytree(trained, tmp_path / "run")
    replace(CheckpointCard.read(run / "student"), recipe={}).write(run / "student")
    with pytest.raises(CheckpointError, match="expected the plan of its training on its card, found none"):
        attribute_gap(run)


@pytest.mark.parametrize("name", ["rows", "updates", "subset", "subset_updates"])
def test_a_gap_is_measured_by_something(name: str) -> None:
    """Not by no rows, nor by all but the last few, as a number below zero would have it."""
    with pytest.raises(RecipeError, match=f"expected {name} of 1 or more to measure a gap by, found -5"):
        GapSettings(**{name: -5})


def test_rows_that_are_learnt_are_not_held_out(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the teacher or the student: they are left out and counted, and where all are learnt nothing can be measured."""
    run = shutil.copytree(trained, tmp_path / "run")
    rows = list(read_examples(run / "data/train.jsonl"))
    write_examples(run / "filtered/train.jsonl", rows[2:])
    write_examples(run / "data/validation.jsonl", [*rows[:4], *repair_examples(8, seed=3)])
    assert [row.id for row in read_run(run, SETTINGS).held_out] == [row.id for row in repair_examples(8, seed=3)]
    assert "left out of validation: 4 of 12 rows, whose inputs are trained on" in capsys.readouterr().err
    write_examples(run / "data/validation.jsonl", rows[:4])
    with pytest.raises(DataError, match="found the inputs of all 4 among the training rows"):
        attribute_gap(run)


def test_further_answers_are_held_to_the_reference_of_their_row(trained: Path, tmp_path: Path) -> None:
    """They are learnt as rows of their own, and counted and corrected like the first; what was imagined has no reference."""
    run = shutil.copytree(trained, tmp_path / "run")
    rows = repair_examples(200)[:2]
    others = [replace(row, id=f"{row.id}#2", target="other") for row in rows]
    imagined = replace(rows[0], id="imagined", fields={"line": "nobody wrote this", "after": ""}, target="other")
    write_examples(run / "filtered/train.jsonl", [*rows, *others, imagined])
    measured = causes.labels(read_run(run, SETTINGS), replace(PLAN, steps=1), np.zeros(24))
    assert next(iter(measured)).name == "50.0% of labels differ"


def finding(cause: Cause, low: float, value: float) -> Finding:
    return Finding(cause, "", Interval(value, low, 2 * value - low), 10, "")


def test_what_surely_costs_most_is_what_to_try_next() -> None:
    """Not what costs most by chance; and where nothing stands out, that is said."""
    some = Interval(0.2, 0.1, 0.3)
    found = (finding("capacity", -0.1, 0.5), finding("training", 0.05, 0.1), finding("quantization", 0.01, 0.2))
    lost = Gap(10, "exact_match", some, some, some, found)
    assert lost.advice.startswith("train longer")
    assert "no cause stands out beyond chance" in replace(lost, findings=lost.findings[:1]).advice
    level = Interval(0.0, -0.1, 0.1)
    assert "take a better teacher" in replace(lost, gap=level, findings=()).advice


def test_shares_have_intervals_over_rows() -> None:
    """The mean, and where the means of resampled rows lie; no rows, no share."""
    found = share(np.array([1.0, 0.0] * 50))
    assert found.value == 0.5
    assert 0.35 < found.low < 0.45 < 0.55 < found.high < 0.65
    assert share(np.zeros(0)) == Interval(0.0, 0.0, 0.0)
    assert len(list(table(Gap(0, "exact_match", found, found, found, ())))) == 7

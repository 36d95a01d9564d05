"""What was to be reached, held against what was found."""

from __future__ import annotations

from typing import Literal

import pytest

from pocketseq.errors import DataError
from pocketseq_distill.evaluation import Latency
from pocketseq_distill.published.protocols import PROTOCOLS, Lead, Score
from pocketseq_distill.published.results import GOALS, RESULTS, Goal
from pocketseq_distill.published.table import ModelResult, claims
from pocketseq_distill.published.tasks import PUBLISHED


def model(
    name: str, value: float, *, size: int, ms: float, better: Literal["higher", "lower"] = "lower", steps: tuple[int, ...] = ()
) -> ModelResult:
    score = Score("wer" if better == "lower" else "bleu", value, value - 1, value + 1, better, 100)
    training = {"steps": steps[-1], "earlier_steps": sum(steps[:-1])} if steps else None
    return ModelResult(name, "pytorch", "fp32", 1000, size, (score,), Latency(ms, ms), training)


def test_word_errors_are_held_as_the_share_of_right_words() -> None:
    """From 42% wrong words to 43% the student keeps 57 of 58: 98.3% of the quality."""
    models = {
        "teacher": model("teacher", 42.0, size=25_000_000, ms=30.0),
        "student-int8": model("student-int8", 43.0, size=3_000_000, ms=6.0),
    }
    found = claims(models, Goal("baseline", {"wer": 41.94}, size_mb=5), Lead(2.5, 1.25, 3.5))
    assert [(claim.what, claim.wanted, claim.found, claim.holds) for claim in found] == [
        ("word errors of baseline", "≤ 41.94", "43", False),
        ("size", "≤ 5 MB", "3.00 MB", True),
        ("quality of the teacher's", "≥ 98%", "98.3%", True),
        ("smaller than the teacher", "≥ 8×", "8.3×", True),
        ("faster than the teacher in PyTorch", "≥ 6×", "5.0×", False),
        ("ahead of a plain student trained as long", "> 0 points", "+2.50 points, +1.25 to +3.50", True),
    ]


def test_bleu_is_better_when_higher() -> None:
    """A student of 41 reaches a bar of 41, and loses to a plain one of 42; without a plain one nothing is said of it."""
    models = {
        "teacher": model("teacher", 44.0, size=16, ms=6.0, better="higher"),
        "student-int8": model("student-int8", 41.0, size=2, ms=1.0, better="higher"),
    }
    goal = Goal("others", {"bleu": 41.0}, size_mb=8)
    assert [claim.holds for claim in claims(models, goal)] == [True, True, False, True, True]
    assert not claims(models, goal, Lead(-1.0, -2.0, 0.5))[-1].holds


def test_a_table_without_its_student_is_refused() -> None:
    """There is nothing to hold to the goals."""
    with pytest.raises(DataError, match=r"expected results of student-int8, found only \['teacher'\]"):
        claims({"teacher": model("teacher", 42.0, size=1, ms=1.0)}, Goal("others", {}, size_mb=1))


def test_nothing_is_claimed_of_what_a_teacher_does_not_tell() -> None:
    """One through text is held to its quality alone, and one that was not asked to nothing; the student's own goals stand."""
    student = {"student-int8": model("student-int8", 43.0, size=3_000_000, ms=6.0)}
    asked = ModelResult("teacher", "endpoint", "through text", None, None, model("", 42.0, size=1, ms=1.0).scores, None, None)
    goal = Goal("baseline", {"wer": 41.94}, size_mb=5)
    assert [claim.what for claim in claims(student, goal)] == ["word errors of baseline", "size"]
    assert [claim.what for claim in claims(student | {"teacher": asked}, goal)] == [
        "word errors of baseline",
        "size",
        "quality of the teacher's",
    ]


def test_where_nothing_is_published_only_the_run_itself_is_compared() -> None:
    """The student beside its teacher and the plain one, without a bar from elsewhere."""
    student = model("student-int8", 43.0, size=3_000_000, ms=6.0)
    assert [claim.what for claim in claims({"student-int8": student}, None, Lead(2.5, 1.0, 4.0))] == [
        "ahead of a plain student trained as long"
    ]


@pytest.mark.parametrize(
    ("lead", "steps", "told", "holds"),
    [
        (Lead(2.5, 1.0, 4.0), (500, 480), "+2.50 points, +1.00 to +4.00; that one made 98% of the student's updates", True),
        (Lead(2.5, 1.0, 4.0), (470,), "+2.50 points, +1.00 to +4.00; that one made 47% of the student's updates", False),
        (Lead(-0.5, -1.0, 0.5), (2000,), "-0.50 points, -1.00 to +0.50; that one made 200% of the student's updates", False),
    ],
)
def test_a_lead_over_a_plain_student_that_stopped_sooner_is_none(
    lead: Lead, steps: tuple[int, ...], told: str, holds: bool
) -> None:
    """It may be that of longer training; every training of either counts, and how many updates there were is told."""
    models = {
        "student": model("student", 43.0, size=1, ms=1.0, steps=(1000,)),
        "student-int8": model("student-int8", 43.0, size=1, ms=1.0),
        "plain": model("plain", 45.5, size=1, ms=1.0, steps=steps),
    }
    [claim] = claims(models, None, lead)
    assert (claim.found, claim.holds) == (told, holds)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_task_has_results_to_compare_with_and_a_goal(name: str) -> None:
    """All by measures that its protocol has."""
    measures = {measure.name for measure in PROTOCOLS[PUBLISHED[name].protocol]}
    assert set(GOALS[name].scores) <= measures
    assert all(set(result.scores) <= measures for result in RESULTS[name])

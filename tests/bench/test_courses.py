"""How far the trainings of a table went, in words and as curves."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from pocketseq_bench.report.courses import WIDTH, courses_of, courses_plot, courses_table, headings


def training(*values: float, measure: str = "exact_match", **more: Any) -> dict[str, Any]:
    validations = [{"step": 100 * place, measure: value} for place, value in enumerate(values, start=1)]
    told = {"seed": 3, "steps": 100 * len(values), "minutes": 30.0, "threads": 2, "device": "A <processor>"}
    return {**told, "validations": validations, f"best_validation_{measure}": max(values, default=None), **more}


def table(**trainings: Any) -> dict[str, Any]:
    return {"models": [{"name": name, "training": found} for name, found in trainings.items()]}


def test_a_training_tells_how_long_it_was_and_where_it_stands() -> None:
    """Updates made of those planned, passes over the rows, hours, seed, machine, validations, and whether they rise at the end."""
    found = table(teacher=training(0.1, 0.2, 0.35, planned_steps=5000, passes=6.72), student=None, plain=training(0.1, 0.3, 0.2))
    teacher, plain = courses_of(found)
    assert teacher.cells == ["300 of 5,000", "6.7", "0.50", "seed 3, 2 threads of A <processor>", "10.0 · 20.0 · 35.0 (rising)"]
    ensemble = courses_of(table(teacher=training(0.1, 0.2, members=3)))[0]
    assert ensemble.cells[:3] == ["3 × 200", "–", "0.50"]
    unlike = courses_of(table(teacher=training(0.1, members=3, member_steps=[1100, 900, 900])))[0]
    assert unlike.cells[0] == "1,100, 900 and 900"
    alike = courses_of(table(teacher=training(0.1, members=2, earlier_steps=20, member_steps=[120, 120], planned_steps=150)))[0]
    assert alike.cells[0] == "2 × 120 of 170"
    (longer,) = courses_of(table(plain=training(0.1, 0.3, 0.2, earlier_steps=20, planned_steps=500)))
    assert (longer.cells[0], longer.cells[-1]) == ("20 + 300 of 520", "10.0 · 30.0 · 20.0 (best 30.0 at 220)")
    assert [step for step, _ in longer.points] == [120, 220, 320]
    accelerated = {**training(0.1), "threads": None}
    assert courses_of(table(teacher=accelerated))[0].cells[3] == "seed 3, A <processor>"
    assert plain.cells[-1] == "10.0 · 30.0 · 20.0 (best 30.0 at 200)"
    assert plain.cells[:2] == ["300", "–"]  # a result file from before these were kept


def test_many_validations_are_shown_at_even_distances() -> None:
    """The last one always."""
    (course,) = courses_of(table(teacher=training(*(number / 100 for number in range(1, 14)))))
    assert course.cells[-1] == "1.0 · 4.0 · 7.0 · 10.0 · 13.0 (rising)"


def test_all_are_shown_by_the_measure_that_chose_the_student() -> None:
    """By chrF where every training has it; where one has not, by exact match."""
    both = {"validations": [{"step": 100, "exact_match": 0.1, "chrf": 0.5}]}
    student = training(0.5, measure="chrf", **both)
    courses = courses_of(table(teacher=training(0.5, measure="chrf", **both), student=student))
    assert headings(courses)[-1] == "validation by chrF"
    assert [course.points for course in courses] == [[(100, 50.0)], [(100, 50.0)]]
    assert headings(courses_of(table(teacher=training(0.5), student=student)))[-1] == "validation by exact match"


def test_curves_are_drawn_where_there_are_any() -> None:
    """One for each model that was validated, named at its end; words from a file are no HTML."""
    courses = courses_of(table(teacher=training(0.1, 0.2), student=training(0.3), plain=training()))
    picture = courses_plot(courses)
    assert picture.count("<path") == 2
    assert "teacher 20.0" in picture
    assert "student 30.0" in picture
    assert "A &lt;processor&gt;" in courses_table(courses)
    assert courses_plot(courses_of(table(teacher=training(0.1)))) == ""


def test_names_of_courses_that_end_together_stand_apart() -> None:
    """One below the other, and all of it inside the picture."""
    picture = courses_plot(courses_of(table(teacher=training(0.1, 0.2), student=training(0.1, 0.2), plain=training(0.1, 0.21))))
    names = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)">(?:teacher|student|plain) ', picture)
    assert len(names) == 3
    heights = sorted(float(height) for _, height in names)
    assert all(lower - upper > 15 for upper, lower in pairwise(heights))
    assert all(float(x) <= WIDTH - 88 for x, _ in names)


def test_curves_that_run_close_together_fill_the_plot() -> None:
    """What validation came to begins where the lowest of it does, not at 0; names stand beside the plot, the best first."""
    picture = courses_plot(
        courses_of(table(teacher=training(0.66, 0.67), student=training(0.665, 0.68, 0.685), plain=training(0.67)))
    )
    ticks = re.findall(r'class="tick end"[^>]*>([\d.]+)<', picture)
    assert [float(tick) for tick in ticks] == [66.0, 66.5, 67.0, 67.5, 68.0, 68.5]
    names = re.findall(r'<text[^>]* x="([\d.]+)" y="[\d.]+">(teacher|student|plain) ', picture)
    assert [name for _, name in names] == ["student", "teacher", "plain"]
    assert len({x for x, _ in names}) == 1

"""How the models of a table were trained: how far, on what, and how validation went along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from pocketseq.report.drawing import Scale, dot, line, path, picture, round_steps, steps_between, text
from pocketseq.report.figures import MISSING

WIDTH: Final = 560
HEIGHT: Final = 320
_NAME_WIDTH: Final = 128
"""Room for a course's mark, its name and what it came to, beside the plot."""
_LINE: Final = 16
_SHOWN: Final = 6
"""Validations that a row of a table shows at most."""
_TITLES: Final = {"exact_match": "exact match", "chrf": "chrF"}


@dataclass(frozen=True, slots=True)
class Course:
    """How one training went."""

    name: str
    """``teacher``, ``student`` or ``plain``."""
    training: Mapping[str, Any]
    """As the result file tells it."""
    measure: str
    """What its validations are shown by."""

    @property
    def points(self) -> list[tuple[int, float]]:
        """Updates made, those before the last training among them, and what validation came to, in percent, in order."""
        validations, earlier = self.training.get("validations", ()), self.training.get("earlier_steps", 0)
        return [(earlier + found["step"], 100 * found[self.measure]) for found in validations if self.measure in found]

    @property
    def cells(self) -> list[str]:
        """Updates, passes over the rows, hours, seed and hardware, and validations, as people read them; of an ensemble the updates
        of each member and the hours of all.
        """
        training = self.training
        passes = training.get("passes")
        threads = training.get("threads")  # an accelerator has none that count
        where = f"{threads} thread{'s' * (threads > 1)} of {training['device']}" if threads else str(training["device"])
        return [
            self._updates(),
            MISSING if passes is None else f"{passes:.1f}",
            f"{training['minutes'] / 60:.2f}",
            f"seed {training['seed']}, {where}",
            self._along_the_way(),
        ]

    def _updates(self) -> str:
        training = self.training
        steps, planned, earlier = training["steps"], training.get("planned_steps"), training.get("earlier_steps", 0)
        members = training.get("member_steps")
        if members and len(set(members)) > 1:
            *others, last = (f"{made:,}" for made in members)
            return f"{', '.join(others)} and {last}"
        stopped = f" of {earlier + planned:,}" if planned and planned > steps else ""
        if "members" in training:
            return f"{training['members']} × {earlier + steps:,}{stopped}"
        return f"{earlier:,} + {steps:,}{stopped}" if earlier else f"{steps:,}{stopped}"

    def _along_the_way(self) -> str:
        points = self.points
        if not points:
            return MISSING
        every = -(-len(points) // _SHOWN)
        shown = [f"{value:.1f}" for _, value in points[(len(points) - 1) % every :: every]]
        best_step, best = max(points, key=lambda point: point[1])
        stands = "rising" if len(points) > 1 and best_step == points[-1][0] else f"best {best:.1f} at {best_step:,}"
        return f"{' · '.join(shown)} ({stands})"


def headings(courses: Sequence[Course]) -> list[str]:
    """Of the columns that ``Course.cells`` fills, after the name."""
    measure = courses[0].measure if courses else "exact_match"
    return ["updates", "passes", "hours", "seed and machine", f"validation by {_TITLES.get(measure, measure)}"]


def courses_of(table: Mapping[str, Any]) -> list[Course]:
    """The trainings of a table, all by one measure: the one that the student's checkpoint was chosen by, where all have it."""
    trained = [(model["name"], model["training"]) for model in table["models"] if model["training"] is not None]
    known = [set(found) - {"step"} for _, training in trained for found in training.get("validations", ())]
    chosen = next((name for name, training in trained if name == "student" and "best_validation_chrf" in training), None)
    measure = "chrf" if chosen and all("chrf" in names for names in known) else "exact_match"
    return [Course(name, training, measure) for name, training in trained]


def courses_table(courses: Sequence[Course]) -> str:
    """A row for each training: how long it was, and how validation went."""
    rows = "\n".join(
        f'<tr><td><span class="dot {kind_of(course.name)}"></span>{escape(course.name)}</td>'
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in course.cells)}</tr>"
        for course in courses
    )
    titles = "".join(f"<th>{escape(title[0].upper() + title[1:])}</th>" for title in ("trained", *headings(courses)))
    return (
        f'<div class="card wide courses">\n<table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>'
    )


def courses_plot(courses: Sequence[Course]) -> str:
    """Validation over updates; nothing where nothing was validated twice."""
    drawn = [course for course in courses if course.points]
    if not any(len(course.points) > 1 for course in drawn):
        return ""
    points = [point for course in drawn for point in course.points]
    values = [value for _, value in points]
    across = round_steps(max(step for step, _ in points), at_most=6)
    up = steps_between(min(values), max(values), at_most=5)
    x, y = Scale(0, across[-1], 44, WIDTH - _NAME_WIDTH), Scale(up[0], up[-1], HEIGHT - 46, 18)
    shapes = [line(x(0), y(tick), x(across[-1]), y(tick), "grid") for tick in up]
    shapes += [text(x(0) - 8, y(tick) + 4, f"{tick:g}", "tick end") for tick in up]
    shapes += [text(x(tick), y(up[0]) + 18, f"{tick:,.0f}", "tick middle") for tick in across]
    title = _TITLES.get(drawn[0].measure, drawn[0].measure)
    shapes.append(text((x(0) + x(across[-1])) / 2, HEIGHT - 8, f"updates; upwards: {title} on validation rows, %", "label middle"))
    for course in drawn:
        shapes.append(path([(x(at), y(found)) for at, found in course.points], f"series {kind_of(course.name)}"))
        shapes += [dot(x(at), y(found), f"mark {kind_of(course.name)}", radius=3.5) for at, found in course.points]
    # Beside the plot, where no other curve runs through them, as high as what they came to, or below what is as high.
    name_x, free_y = x(across[-1]) + 14, 0.0
    for course in sorted(drawn, key=lambda course: -course.points[-1][1]):
        value = course.points[-1][1]
        name_y = max(y(value), free_y)
        free_y = name_y + _LINE
        shapes.append(dot(name_x, name_y, f"mark {kind_of(course.name)}", radius=4.5))
        shapes.append(text(name_x + 9, name_y + 4, f"{course.name} {value:.1f}", "strong start"))
    return picture(WIDTH, HEIGHT, "Validation while training", shapes)


def kind_of(name: str) -> str:
    """The class by whose colour a model is drawn."""
    return name if name in ("teacher", "plain") else "student"

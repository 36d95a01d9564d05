"""Plain students: of the distilled student's shape, taught by the references alone; what distilling is held to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pocketseq_distill.students.settings import StudentSettings


@dataclass(frozen=True, slots=True)
class PlainSettings:
    """How a plain student begins."""

    start: Literal["random", "student"] = "random"
    """``random`` takes nothing over; ``student`` begins as the distilled one does. That is fair where this owes nothing to the
    teacher's training on the same rows: where it was pre-trained elsewhere, or is a member of the student's own shape, which is a
    plain student itself. Cut from a larger teacher that was trained on them, a plain student has had that teacher's help."""

    def of(self, student: StudentSettings) -> StudentSettings:
        """A plain student beside a distilled one.

        Args:
            student: The distilled one. Its dropout is chosen for one that has a teacher's word; with the labels alone the teacher's
                own counts, which was chosen for them.
        """
        return replace(student, start=student.start if self.start == "student" else "random", dropout=None)

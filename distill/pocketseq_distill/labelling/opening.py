"""Opening teachers: from a recipe's ``[teacher]`` table, or from what one types, to whatever answers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocketseq.errors import RecipeError
from pocketseq.template import Template
from pocketseq_distill.labelling.teacher import Teacher

if TYPE_CHECKING:
    from pocketseq_distill.teacher import TeacherSettings


@dataclass(frozen=True, slots=True)
class Opened:
    """A teacher, and how its inputs are read."""

    teacher: Teacher
    template: Template


def open_teacher(
    settings: TeacherSettings, template: Template | None, *, checkpoint: Path | None = None, spent: Path | None = None
) -> Opened:
    """Open the teacher that the settings name.

    Args:
        settings: A recipe's ``[teacher]`` table.
        template: How inputs are read where the teacher does not say; None takes the teacher's.
        checkpoint: The encoder-decoder or ensemble where it is there already, as in a run; None finds what the settings name.
        spent: File that keeps what an endpoint cost.

    Raises:
        RecipeError: no teacher named, or a teacher through text without a template.
        CheckpointError: no usable checkpoint.
        TeacherError: no such function.
    """
    if not settings.through_text:
        from pocketseq_distill.checkpoints import find_teacher
        from pocketseq_distill.labelling.checkpoint import CheckpointTeacher

        if checkpoint is None and settings.checkpoint is None:
            raise RecipeError("[teacher]: expected checkpoint, ensemble, causal, endpoint or function, found none of them")
        teacher = CheckpointTeacher(checkpoint or find_teacher(settings.checkpoint or ""))
        return Opened(teacher, teacher.card.template)
    if template is None:
        raise RecipeError("[teacher]: expected a template for a teacher through text, found none")
    return Opened(_through_text(settings, template, spent), template)


def _through_text(settings: TeacherSettings, template: Template, spent: Path | None) -> Teacher:
    if settings.causal is not None:
        from pocketseq_distill.labelling.causal import CausalTeacher

        return CausalTeacher(settings.causal)
    if settings.endpoint is not None:
        from pocketseq_distill.labelling.endpoint import EndpointTeacher

        return EndpointTeacher(settings.endpoint, template, spent=spent)
    from pocketseq_distill.labelling.function import FunctionTeacher

    assert settings.function is not None
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # where people keep the function that they name; the console script does not look there
    return FunctionTeacher(settings.function)

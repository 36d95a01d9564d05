"""How far a training went, as its checkpoint's card tells it: whether more of the same is the first thing to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pocketseq.checkpoint import CheckpointCard

_RISE: Final = 0.005
"""What the last third of a finished training gains at most."""
_SPENT: Final = 0.95
"""Share of its minutes after which a training was ended by the clock."""


@dataclass(frozen=True, slots=True)
class Course:
    """How far one training went."""

    name: str
    """``teacher`` or ``student``."""
    steps: int
    """Updates that were made."""
    by_clock: bool
    """Whether its minutes ended it, not its updates."""
    rise: float | None
    """What validation gained in the last third of the updates, in 0…1; None where it was not validated often enough to tell."""
    measure: str
    """What validation was by: ``exact_match`` or ``chrf``."""

    @property
    def is_unfinished(self) -> bool:
        """Whether it ended before it had stopped to gain."""
        return self.by_clock or (self.rise is not None and self.rise > _RISE)

    def __str__(self) -> str:
        parts = [f"the {self.name} made {self.steps:,} updates"]
        parts += ["was ended by the clock"] if self.by_clock else []
        if self.rise is not None:
            parts.append(f"gained {100 * self.rise:.1f} points of validation in the last third of them")
        return ", ".join(parts)


def course_of(name: str, card: CheckpointCard) -> Course | None:
    """Read a checkpoint's card.

    Args:
        name: ``teacher`` or ``student``.
        card: What it says.

    Returns:
        None where it tells of no training, as of a teacher from elsewhere.
    """
    training = card.training
    if not training.get("steps"):
        return None
    plan: Mapping[str, Any] = next((value for key, value in card.recipe.items() if key.endswith("train")), {})
    minutes, measure = plan.get("max_minutes"), plan.get("judged_by", "exact_match")
    return Course(
        name=name,
        steps=int(training["steps"]),
        by_clock=minutes is not None and training.get("minutes", 0.0) >= _SPENT * minutes,
        rise=_rise(training.get("validations", ()), int(training["steps"]), measure),
        measure=measure,
    )


def _rise(validations: Sequence[Mapping[str, Any]], steps: int, measure: str) -> float | None:
    found = [(int(each["step"]), float(each[measure])) for each in validations if measure in each]
    before = [value for step, value in found if step <= 2 * steps / 3]
    after = [value for step, value in found if step > 2 * steps / 3]
    return max(after) - max(before) if before and after else None

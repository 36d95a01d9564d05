"""Losses: what counts as wrong, from 0 for right to 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pocketseq.errors import CalibrationError
from pocketseq.metrics import chrf, edit_similarity

METRICS: Final[Mapping[str, Callable[[str, str], float]]] = {
    "edit_similarity": edit_similarity,
    "chrf": lambda answer, target: chrf([answer], [target]),
}
"""Metrics of one answer, 1 for the best."""

_EXACT: Final = ("exact", "teacher")


@dataclass(frozen=True, slots=True)
class Loss:
    """What is lost by serving an answer.

    ``exact``: 1 where the answer is not the target. ``teacher``: the same where the targets are a teacher's answers.
    ``edit_similarity<0.9``: 1 where the metric is below. ``edit_similarity``: 1 less the metric, a matter of degree.
    """

    name: str
    """As above, with ``edit_similarity`` or ``chrf``."""

    def __post_init__(self) -> None:
        metric, bounded, bound = self.name.partition("<")
        number = _number(bound) if bounded else 1.0
        if self.name not in _EXACT and (metric not in METRICS or number is None or not 0 < number <= 1):
            raise CalibrationError(
                f"loss: expected exact, teacher, or one of {sorted(METRICS)}, alone or as in edit_similarity<0.9, "
                f"found {self.name!r}"
            )

    @property
    def binary(self) -> bool:
        """Whether it is 0 or 1 and nothing between."""
        return self.name in _EXACT or "<" in self.name

    def __call__(self, answer: str, target: str) -> float:
        """The loss of one answer, 0 to 1."""
        if self.name in _EXACT:
            return float(answer != target)
        metric, _, bound = self.name.partition("<")
        found = 1.0 if answer == target else METRICS[metric](answer, target)  # chrF finds nothing to share in two empty texts
        return float(found < float(bound)) if bound else 1 - found


EXACT: Final = Loss("exact")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

"""What a stream of a hybrid tells its consumer. To show it: append each draft, start anew at each replacement, keep the final."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pocketseq.suggestion import Suggestion


@dataclass(frozen=True, slots=True)
class Draft:
    """More of the answer that is being shown."""

    text: str
    """To be appended to what is shown."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Another answer takes the place of the one that is being shown."""

    text: str
    """What is to be shown instead of all that was shown so far; drafts after it are appended to it."""


@dataclass(frozen=True, slots=True)
class Final:
    """The end; always the last event, and the only one of its kind."""

    suggestion: Suggestion
    """The answer. Its text is what the events before it add up to."""


Event: TypeAlias = Draft | Replace | Final
"""One event of a stream."""

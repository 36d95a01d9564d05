"""Jobs: inputs on their way to an answer."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from pocketseq.decoding.cancellation import Cancellation
from pocketseq.decoding.settings import FinishReason
from pocketseq.template import EncodedInput


@dataclass(slots=True)
class Job:
    """An input that was read, and what its caller waits for; never changed, and made too often to be frozen."""

    encoded: EncodedInput
    number: int
    """Place among the inputs of its call, by which draws are seeded."""
    started: float
    """``perf_counter`` at the call, in seconds."""
    tokenize_ms: float
    deadline: float | None
    """``perf_counter`` at which the answer must stand; None waits as long as it takes."""
    cancellation: Cancellation | None

    def halted(self) -> FinishReason | None:
        """Why the answer must end now, or None."""
        if self.cancellation is not None and self.cancellation.cancelled:
            return "cancelled"
        return "deadline" if self.deadline is not None and perf_counter() >= self.deadline else None

    @property
    def can_halt(self) -> bool:
        """Whether ``halted`` could ever give a reason."""
        return self.cancellation is not None or self.deadline is not None


def milliseconds(since: float) -> float:
    """Milliseconds since a ``perf_counter``."""
    return 1000 * (perf_counter() - since)

"""How a benchmark is made."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from pocketseq.errors import InputError


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What is measured, how often, and for how long."""

    runtimes: tuple[str, ...] = ()
    """Of the variants to measure; empty for all."""
    precisions: tuple[str, ...] = ()
    """Of the variants to measure; empty for all."""
    threads: tuple[int, ...] = (1,)
    """Each is a configuration of its own. Small models are fastest on one, and an app has other work for the rest."""
    starts: int = 7
    """Fresh processes for each configuration to time import, load and first suggestion in."""
    cold_starts: int = 3
    """The same with the bundle's files dropped from the page cache."""
    warmup: int = 20
    """Suggestions before a process's first turn."""
    turn_rows: int = 16
    """Inputs of one turn, the same for every configuration of a round; few, so that all of them have the same neighbours."""
    least_rounds: int = 16
    """Rounds at least, unless the time is up."""
    passes: int = 2
    """How often every input is asked at least, unless the time is up; with two, the halves of a run can be compared."""
    tolerance: float = 0.03
    """Rounds end when the 95% interval of every configuration's median lies within this share of it."""
    budget_s: float = 600.0
    """Time for all of it: about a fifth for the starts, then rounds, and a fifth for forced lengths and batches."""
    forced_tokens: int = 16
    """Length of the forced answers."""
    batches: tuple[int, ...] = (1, 8, 32)
    """Inputs in one call, for the throughput."""
    repeats: int = 5
    """Rounds of forced lengths, and of batches."""
    sustained_minutes: float = 0.0
    """Answering without a pause, for each configuration; 0 for none."""
    cooldown_s: float = 60.0
    """Longest wait for the machine to cool down, where a sensor tells how warm it is."""
    patience_s: float = 180.0
    """A process that has not answered a request by then is ended, and its row says so."""

    def __post_init__(self) -> None:
        if not self.threads or min(self.threads) < 1:
            raise InputError(f"threads: expected whole numbers from 1, found {list(self.threads)}")
        least = {"starts": 1, "cold_starts": 0, "warmup": 0, "turn_rows": 1, "least_rounds": 1, "passes": 1, "forced_tokens": 1}
        for name, number in {**least, "repeats": 1}.items():
            if getattr(self, name) < number:
                raise InputError(f"{name}: expected a whole number from {number}, found {getattr(self, name)}")
        if any(size < 1 for size in self.batches):
            raise InputError(f"batches: expected whole numbers from 1, found {list(self.batches)}")
        if not (self.budget_s > 0 and self.patience_s > 0):
            raise InputError(
                f"expected times above 0 for all of it and for a request, found {self.budget_s} and {self.patience_s} s"
            )
        if not 0 <= self.sustained_minutes < inf:
            raise InputError(f"sustained_minutes: expected a time from 0, found {self.sustained_minutes:g}")


QUICK: Final = BenchSettings(
    starts=3, cold_starts=1, turn_rows=8, least_rounds=10, passes=1, budget_s=36.0, repeats=3, cooldown_s=5.0
)
"""A first look within a minute."""

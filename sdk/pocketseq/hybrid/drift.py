"""Whether a promise still holds: a sequential test over audited answers that may be looked at after each of them.

The test bets on each audit (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting"): while the
mean loss of the answers is at most ``risk``, the capital of the bettor is a nonnegative supermartingale that starts at 1, and by
Ville's inequality ever reaches 1/``delta`` with probability at most ``delta``. A false alarm is thus at most that probable over all
time, however often one looks. The capital is the mean over several stakes, as the best one depends on how much more is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

_STAKES: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
"""Shares of the largest stake with which the capital cannot become negative."""


@dataclass(frozen=True, slots=True)
class Drift:
    """State of the test; ``after`` gives the next one."""

    risk: float
    """Largest mean loss that was promised: the share of wrong answers, where one is wrong or right."""
    delta: float
    """Probability of a false alarm, over all time."""
    audits: int = 0
    """Answers that were compared with the cloud's."""
    differing: int = 0
    """Of these, how many differ from it so that it is a loss."""
    evidence: float = 1.0
    """The largest capital so far; 1/``delta`` raises the alarm."""
    log_capitals: tuple[float, ...] = (0.0,) * len(_STAKES)
    """Logarithm of each stake's capital."""
    lost: float = 0.0
    """Sum of all losses."""

    @property
    def alarmed(self) -> bool:
        """Whether the promise looks broken."""
        return self.evidence >= 1 / self.delta

    def after(self, *, loss: float) -> Drift:
        """The state after one more audit.

        Args:
            loss: Of the local answer against the cloud's, 0 to 1.
        """
        # The stake λ = share/risk keeps 1 + λ(x − risk) ≥ 1 − share > 0 for x in [0, 1].
        gains = ((share / self.risk) * (loss - self.risk) for share in _STAKES)
        logs = tuple(log + math.log1p(gain) for log, gain in zip(self.log_capitals, gains, strict=True))
        top = max(logs)
        log_mean = top + math.log(math.fsum(math.exp(log - top) for log in logs) / len(logs))
        return replace(
            self,
            audits=self.audits + 1,
            differing=self.differing + (loss > 0),
            evidence=max(self.evidence, math.exp(min(log_mean, 700.0))),
            log_capitals=logs,
            lost=self.lost + loss,
        )

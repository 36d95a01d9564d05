"""How late calls end after their deadlines, stage by stage, and how late a thread wakes that does nothing but sleep beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

STAGES: Final = ("local", "cloud", "after")
NAP_S: Final = 0.005
ALLOWED_MS: Final = 50
"""After a deadline a call may end so late."""


@dataclass
class Stopwatch:
    """Times of one call, in monotonic seconds."""

    started_s: float = 0.0
    ended_s: float = 0.0
    local_s: float | None = None
    """When the local model had answered."""
    receipt_s: float | None = None
    """When the receipt was written: all waiting is over by then."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """The call itself, and nothing that only this harness does."""
        self.started_s = time.monotonic()
        try:
            yield
        finally:
            self.ended_s = time.monotonic()


@dataclass(frozen=True)
class Lateness:
    """By how much one call ended after its deadline, in milliseconds; negative where it was in time."""

    whole: float
    local: float
    """Of it, until the local answer was there."""
    cloud: float
    """Then, until nobody waited for the cloud any more."""
    after: float
    """Then, until the caller had the suggestion."""
    sleeper: float
    """By how much a thread that only sleeps woke too late at that time: what the machine, and Python's one lock, do to anyone."""

    @classmethod
    def of(cls, watch: Stopwatch, deadline_ms: float, sleeper: Sleeper) -> Lateness:
        """Divide a call's lateness among its stages."""
        deadline_s = watch.started_s + deadline_ms / 1000

        def late_ms(since_s: float, until_s: float | None) -> float:
            return 0.0 if until_s is None else max(0.0, until_s - max(since_s, deadline_s)) * 1000

        local_s = watch.local_s or watch.started_s
        receipt_s = watch.receipt_s or watch.ended_s
        return cls(
            whole=(watch.ended_s - deadline_s) * 1000,
            local=late_ms(deadline_s, watch.local_s),
            cloud=late_ms(local_s, receipt_s),
            after=late_ms(receipt_s, watch.ended_s),
            sleeper=sleeper.worst_ms(deadline_s, watch.ended_s),
        )


@dataclass
class Sleeper:
    """A thread that sleeps again and again, and writes down how late it woke."""

    naps: list[tuple[float, float]] = field(default_factory=list)
    """When each was to end, and when it did."""
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Sleeper:
        self._thread = threading.Thread(target=self._sleep, name="sleeper", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _sleep(self) -> None:
        while not self._over.is_set():
            due_s = time.monotonic() + NAP_S
            time.sleep(NAP_S)
            self.naps.append((due_s, time.monotonic()))

    def worst_ms(self, since_s: float, until_s: float) -> float:
        """How late it woke at most, of the naps that were to end in a span, or that held on into it."""
        worst = 0.0
        for due_s, woke_s in reversed(self.naps):
            if woke_s < since_s:
                break
            if due_s <= until_s:
                worst = max(worst, woke_s - due_s)
        # The nap that is not over yet was due by now, too.
        if self.naps and time.monotonic() - self.naps[-1][1] > NAP_S:
            worst = max(worst, time.monotonic() - self.naps[-1][1] - NAP_S)
        return worst * 1000


def described(late: Sequence[Lateness]) -> list[str]:
    """Lines for people: quantiles of the whole and of each stage, and what is later than 50 ms."""
    lines = [f"{name + ':':22}{quantiles([getattr(one, name) for one in late])}" for name in ("whole", *STAGES, "sleeper")]
    tardy = [one for one in late if one.whole > ALLOWED_MS]
    by_us = sum(one.whole - one.sleeper > ALLOWED_MS for one in tardy)
    stages = {stage: sum(max(STAGES, key=lambda name: getattr(one, name)) == stage for one in tardy) for stage in STAGES}
    lines.append(f"later than 50 ms:     {len(tardy)} of {len(late)}, most of it in {stages}")
    lines.append(f"and than a sleeper:   {by_us} by more than 50 ms beyond a thread of this process that only slept then")
    return lines


def quantiles(late_ms: Sequence[float]) -> dict[str, float]:
    """How late things were, in milliseconds, by percentile."""
    ordered = sorted(late_ms)
    return {f"p{100 * share:g}": round(ordered[int(share * (len(ordered) - 1))], 1) for share in (0.5, 0.9, 0.99, 0.999, 1.0)}

"""What is asked, what must not show, and what came of many calls."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.sdk.cloud.faults.lateness import ALLOWED_MS, STAGES, Lateness, quantiles

KEY: Final = "key-that-must-not-show-0123456789"
SECRET: Final = "pass-word-that-must-not-leave-77"
SOURCE: Final = f'login(user, password="{SECRET}")'
LOCAL: Final = "the local answer"
CLOUD: Final = 'login(user, password="<SECRET_1>") # fixed'
RESTORED: Final = f'login(user, password="{SECRET}") # fixed'


@dataclass
class Tally:
    """What came of many calls."""

    ended: Counter[str] = field(default_factory=Counter)
    """Calls by how they ended: a source, or an error's class."""
    late: list[Lateness] = field(default_factory=list)
    """By how much each call ended after its deadline."""
    wrong: list[str] = field(default_factory=list)
    """What must not have happened."""
    faults: Counter[str] = field(default_factory=Counter)
    """What the endpoint did, request by request."""

    @property
    def met(self) -> int:
        """Faults that calls have met; a request that went well is none."""
        return sum(count for name, count in self.faults.items() if name not in {"good", "whole stream"})


def summary(tally: Tally) -> dict[str, Any]:
    """What came of many calls, as JSON values."""
    tardy = [one for one in tally.late if one.whole > ALLOWED_MS]
    return {
        "faults": tally.met,
        "calls": len(tally.late),
        "ended": dict(tally.ended),
        "requests": dict(sorted(tally.faults.items())),
        "wrong": dict(Counter(tally.wrong)),
        "late_ms": {name: quantiles([getattr(one, name) for one in tally.late]) for name in ("whole", *STAGES, "sleeper")},
        f"later_than_{ALLOWED_MS}_ms": len(tardy),
        "of_these_beyond_a_sleeper": sum(one.whole - one.sleeper > ALLOWED_MS for one in tardy),
    }


class Listener(logging.Handler):
    """Hears every log record there is, and looks for secrets in it."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(logging.DEBUG)
        self._tally = tally
        self.heard = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.heard += 1
        text = self.format(record) + repr(record.args)
        if KEY in text or SECRET in text:
            self._tally.wrong.append(f"a secret in a log of {record.name}")


@contextmanager
def listening(tally: Tally) -> Iterator[Listener]:
    """Hear all logs, of every library and level, for as long as the block runs."""
    root, listener = logging.getLogger(), Listener(tally)
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    try:
        yield listener
    finally:
        root.setLevel(level)
        root.removeHandler(listener)

"""The ledger of a budget: what was used in this hour and this day, kept over restarts."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pocketseq.budget import Budget
from pocketseq.files import write_json

_log = logging.getLogger(__name__)
_LENGTHS_S: Final[Mapping[str, float]] = {"hour": 3600.0, "day": 86400.0}


@dataclass(slots=True)
class Usage:
    """What was used in one window of time."""

    started_s: float
    """Wall-clock time of its first request."""
    requests: int = 0
    tokens: int = 0
    cost: float = 0.0

    def add(self, use: Reservation, sign: int) -> None:
        """Count what one request uses, or with the sign -1 count it no more."""
        self.requests = max(0, self.requests + sign * use.requests)
        self.tokens = max(0, self.tokens + sign * use.tokens)
        self.cost = max(0.0, self.cost + sign * use.cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What one request is expected to use, or has used."""

    requests: int = 1
    tokens: int
    cost: float
    windows: Mapping[str, float] = field(default_factory=dict, compare=False)
    """``Usage.started_s`` of the windows that it is counted in, by name."""


def _awake_or_not(clock: Callable[[], float]) -> Callable[[], float]:
    """A clock that runs on while the machine sleeps, in the place of the standard one where the system has it."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return clock if clock is not time.monotonic or boot is None else lambda: time.clock_gettime(boot)


class Ledger:
    """Counts against a budget; safe to share between threads.

    With a file, the count is written at each request, aside and renamed. Another process that counts in the same file is heard,
    though two requests in the same instant may count as one.

    Time is the wall clock's at the start and runs on evenly from there, so that setting the clock changes nothing in a process.
    Over a restart, a clock that was set back leaves a window that begins in the future: it begins now instead, with what it has
    used. A budget is thus never locked for longer than one window, nor given back for a clock that goes to and fro.
    """

    def __init__(
        self, budget: Budget, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        """Open the ledger.

        Args:
            budget: The limits, and the file.
            clock: Seconds that no setting of the clock moves.
            wall: Wall-clock seconds.
        """
        self._budget = budget
        self._clock = _awake_or_not(clock)
        self._offset_s = wall() - self._clock()
        self._lock = threading.Lock() if budget.file is None else _lock_of(Path(budget.file))
        self._windows: dict[str, Usage] = {}
        self._read_mark: tuple[int, int] | None = None
        self._warned = False

    def reserve(self, expected: Reservation) -> Reservation | str:
        """Count a request before it is made.

        Returns:
            What was counted, to be settled afterwards; where it would go beyond the budget, the limit in words.
        """
        with self._lock:
            self._refresh()
            for name, window in self._windows.items():
                for kind in ("requests", "tokens", "cost"):
                    limit = getattr(self._budget, f"{kind}_per_{name}")
                    if limit is not None and getattr(window, kind) + getattr(expected, kind) > limit:
                        return f"{limit:g} {kind} per {name}"
            for window in self._windows.values():
                window.add(expected, 1)
            self._write()
            return replace(expected, windows={name: window.started_s for name, window in self._windows.items()})

    def settle(self, reserved: Reservation, used: Reservation) -> None:
        """Put what a request used in place of what was reserved for it."""
        if reserved == used:
            return
        with self._lock:
            self._refresh()
            for name, window in self._windows.items():
                if reserved.windows.get(name) == window.started_s:  # else it went with the window that has ended
                    window.add(reserved, -1)
                    window.add(used, 1)
            self._write()

    def usage(self) -> Mapping[str, Usage]:
        """What was used so far, by window."""
        with self._lock:
            self._refresh()
            return {name: Usage(**asdict(window)) for name, window in self._windows.items()}

    def _refresh(self) -> None:
        """Hear other processes, end windows that are over, and mend those that the clock left in the future."""
        self._read()
        now = self._clock() + self._offset_s
        for name, length_s in _LENGTHS_S.items():
            window = self._windows.get(name)
            if window is None or now - window.started_s >= length_s:
                self._windows[name] = Usage(started_s=now)
            elif window.started_s > now:
                window.started_s = now

    def _read(self) -> None:
        if self._budget.file is None:
            return
        path = Path(self._budget.file)
        try:
            status = path.stat()
            mark = (status.st_mtime_ns, status.st_ino)
            if mark == self._read_mark:
                return
            self._windows = _windows(json.loads(path.read_text(encoding="utf-8")))
            self._read_mark = mark
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            self._warn(f"{path}: expected the count of a budget, found {type(error).__name__}; counting on from memory")

    def _write(self) -> None:
        if self._budget.file is None:
            return
        path = Path(self._budget.file)
        try:
            write_json(path, {"format": 1, **{name: asdict(window) for name, window in self._windows.items()}})
            status = path.stat()
            self._read_mark = (status.st_mtime_ns, status.st_ino)
        except OSError as error:
            self._warn(f"{path}: expected to write the count of a budget, found {type(error).__name__}; counting in memory only")

    def _warn(self, words: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(words)


_file_locks: dict[Path, threading.Lock] = {}


def _lock_of(file: Path) -> threading.Lock:
    """One lock for all ledgers of this process that count in one file."""
    return _file_locks.setdefault(file.absolute(), threading.Lock())


def _windows(document: Any) -> dict[str, Usage]:
    if not isinstance(document, dict):
        raise TypeError(type(document).__name__)
    windows = {}
    for name in _LENGTHS_S:
        if name in document:
            window = Usage(**document[name])
            numbers = (window.started_s, window.requests, window.tokens, window.cost)
            if not all(isinstance(number, int | float) and number >= 0 for number in numbers):
                raise ValueError(name)
            windows[name] = window
    return windows

"""A circuit breaker: an endpoint that keeps failing is left alone for a while, then probed by one request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum

from pocketseq.errors import EndpointError, EndpointOfflineError, EndpointRefusalError, EndpointWithheldError


class Verdict(Enum):
    """What one request says about the health of its endpoint."""

    WELL = "well"
    """It answered."""
    ILL = "ill"
    """It did not, or not usably."""
    UNKNOWN = "unknown"
    """The request never reached it, was given up by the caller, or was itself at fault."""


def verdict(error: EndpointError | None) -> Verdict:
    """Judge an endpoint by how a request ended."""
    if error is None or isinstance(error, EndpointRefusalError):  # of one text; another may be to its liking
        return Verdict.WELL
    if isinstance(error, EndpointOfflineError | EndpointWithheldError):
        return Verdict.UNKNOWN
    if type(error) is EndpointError and error.status is not None and not error.retryable:
        return Verdict.UNKNOWN  # such as 400 or 404: it lives, and says that the request is wrong
    return Verdict.ILL


class Breaker:
    """Counts failures in a row; safe to share between threads.

    Closed, it lets every request through. After ``failures`` in a row it opens: for ``rest_s`` nothing is let through. Then it is
    half open: one request may probe. If that succeeds it closes, else it opens for twice as long, up to ``longest_rest_s``.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        rest_s: float = 5.0,
        longest_rest_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start closed.

        Args:
            failures: Failures in a row that open it.
            rest_s: Seconds for which it stays open at first.
            longest_rest_s: Bound on that time, which doubles with each probe that fails.
            clock: Monotonic seconds.
        """
        self._failures = failures
        self._first_rest_s = rest_s
        self._longest_rest_s = longest_rest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._rest_s = rest_s
        self._open_until_s: float | None = None
        self._probe: int | None = None
        """Thread of the request that probes."""

    def admit(self) -> float:
        """Let a request through, or not; whoever is let through owes a ``report``, from the same thread.

        Returns:
            0 where the request may go; else the seconds until the next probe.
        """
        with self._lock:
            if self._open_until_s is None:
                return 0.0
            wait_s = self._open_until_s - self._clock()
            if wait_s > 0:
                return wait_s
            if self._probe is not None:
                return self._rest_s
            self._probe = threading.get_ident()
            return 0.0

    def report(self, found: Verdict) -> None:
        """Tell how a request ended that was let through."""
        with self._lock:
            if probing := self._probe == threading.get_ident():
                self._probe = None
            if found is Verdict.WELL:
                self._in_a_row, self._rest_s, self._open_until_s = 0, self._first_rest_s, None
            elif found is Verdict.ILL:
                self._in_a_row += 1
                if self._open_until_s is not None and probing:
                    self._rest_s = min(self._rest_s * 2, self._longest_rest_s)
                elif self._open_until_s is not None or self._in_a_row < self._failures:
                    return  # a straggler that was let through before it opened, or too few yet
                self._open_until_s = self._clock() + self._rest_s

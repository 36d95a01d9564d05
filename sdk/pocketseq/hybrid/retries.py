"""When a request is made again: how long to wait before it, and how many such requests an endpoint is to bear."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow, with full jitter (Brooker 2015, "Exponential Backoff and Jitter")."""

    base_s: float = 0.1
    """Bound on the first wait."""
    cap_s: float = 8.0
    """Bound on every wait that the endpoint did not ask for."""

    def wait_s(self, retry: int, *, retry_after_s: float | None, random: Random) -> float:
        """Seconds to wait before a retry.

        Args:
            retry: 0 for the first.
            retry_after_s: What the endpoint asked for; it is never undercut.
            random: Where chance comes from.
        """
        jitter_s = random.uniform(0, min(self.cap_s, self.base_s * 2**retry))
        return jitter_s if retry_after_s is None else retry_after_s + min(jitter_s, self.base_s)


class RetryQuota:
    """A bucket of tokens that retries are paid from, so that an endpoint in trouble is not asked a multiple of what it cannot bear.

    A retry costs a token. It comes back when the retry succeeds; a first attempt that succeeds brings ``refund``. Over time retries
    that fail are thus at most that share of the first attempts that succeed. Safe to share between threads.
    """

    def __init__(self, *, capacity: float = 10.0, refund: float = 0.1) -> None:
        """Start full.

        Args:
            capacity: Most tokens.
            refund: Tokens that a first attempt brings when it succeeds.
        """
        self._capacity = capacity
        self._refund = refund
        self._tokens = capacity
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Pay for one retry; False where the bucket is empty."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def succeeded(self, *, retry: bool) -> None:
        """Tell that an attempt succeeded."""
        with self._lock:
            self._tokens = min(self._capacity, self._tokens + (1.0 if retry else self._refund))

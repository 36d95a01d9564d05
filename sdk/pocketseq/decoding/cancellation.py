"""Cancellation: how one thread tells another that an answer is no longer wanted."""

from __future__ import annotations


class Cancellation:
    """Give it to any number of calls and ``cancel`` it from any thread: each ends after the step that is under way."""

    def __init__(self, parent: Cancellation | None = None) -> None:
        """Make one that is not cancelled.

        Args:
            parent: Cancelling it cancels this one too.
        """
        self._parent = parent
        self._cancelled = False

    def cancel(self) -> None:
        """Stop what was given this token, now and later."""
        self._cancelled = True

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled or (self._parent is not None and self._parent.cancelled)

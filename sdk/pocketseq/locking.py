"""A lock that keeps processes apart, on a hidden file of its own: what it guards may be replaced, the lock never is."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO


def take_lock(path: Path, *, wait: bool) -> ExitStack:
    """Take the lock of a file, which need not exist; leaving or closing what this gives lets go of it.

    So does the end of the process, though one that is killed leaves the lock to children that it forked meanwhile, until they end.
    A child that leaves what it inherited lets go of nothing. On Windows nobody is held off.

    Args:
        path: What it guards; ``.NAME.lock`` beside it is locked, and stays there.
        wait: Whether to wait for whoever has it.

    Raises:
        BlockingIOError: another has it, and nobody is to wait.
        OSError: it cannot be made or locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        file = held.enter_context(path.with_name(f".{path.name}.lock").open("ab"))
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.callback(_unlock, file, os.getpid())
        return held.pop_all()


def _unlock(file: IO[bytes], taker: int) -> None:
    """Let go of the lock, which closing does not where a child that was forked has the file open as well."""
    if sys.platform != "win32" and os.getpid() == taker:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)

"""A lock that keeps processes apart, on a hidden file of its own: what it guards may be replaced, the lock never is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO


def take_lock(path: Path, *, wait: bool) -> IO[bytes]:
    """Take the lock of a file, which need not exist; closing what this gives, or the end of the process, lets go of it.

    On Windows nobody is held off.

    Args:
        path: What it guards; ``.NAME.lock`` beside it is locked, and stays there.
        wait: Whether to wait for whoever has it.

    Raises:
        BlockingIOError: another has it, and nobody is to wait.
        OSError: it cannot be made or locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock").open("ab")
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            file.close()
            raise
    return file

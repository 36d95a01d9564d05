"""Memory: that it ran out, whichever library says so, told as what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from pocketseq.errors import TeacherError

_SIGNS: Final = ("can't allocate memory", "not enough memory", "out of memory")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on this machine or on its accelerator."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS))


def first_line(error: BaseException) -> str:
    """What an error says first, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def memory_for(asked: str, *, remedy: str) -> Iterator[None]:
    """Turn memory that runs out while a teacher is asked into an error that says what to change.

    Args:
        asked: What is to fit, in words.
        remedy: What to change.

    Raises:
        TeacherError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        raise TeacherError(f"expected {asked} to fit into memory, found: {first_line(error)}; {remedy}") from error


def memory_for_answers(batch_size: int) -> AbstractContextManager[None]:
    """``memory_for`` a teacher's answers to so many rows at a time."""
    smaller = f"batch_size = {batch_size // 2}" if batch_size > 1 else "fewer candidates"
    return memory_for(
        f"answers to {batch_size} rows at a time",
        remedy=f"try {smaller}, or fewer beams; what was labelled is kept, and the same call goes on",
    )

"""Teachers that other processes can import by their names."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL

Rows = Sequence[Mapping[str, str]]

LOG = "POCKETSEQ_TEST_LOG"
"""Environment variable that names a file in which each process notes whom it was asked about."""


def upper(rows: Rows) -> list[str]:
    """Capitals."""
    note(rows)
    return [row["line"].upper() for row in rows]


def device(rows: Rows) -> list[str]:
    """The accelerator that this process is shown."""
    time.sleep(0.2)  # so that both processes have some
    note(rows)
    return [os.environ.get("CUDA_VISIBLE_DEVICES", "none") for _ in rows]


def choosy(rows: Rows) -> list[str | None]:
    """Capitals for lines of an odd length; nothing for the others."""
    return [row["line"].upper() if len(row["line"]) % 2 else None for row in rows]


def terse(rows: Rows) -> list[str | None]:
    """An empty answer to lines of an odd length; nothing for the others."""
    return ["" if len(row["line"]) % 2 else None for row in rows]


def slow(rows: Rows) -> list[str]:
    """Capitals, after a while."""
    time.sleep(0.2)
    return upper(rows)


def deadly(rows: Rows) -> list[str]:
    """Capitals; the first process that meets the word "value" is killed, once."""
    mark = Path(os.environ[LOG]).with_suffix(".killed")
    if any("value" in row["line"] for row in rows) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), SIGKILL)
    time.sleep(0.05)
    return upper(rows)


def broken(rows: Rows) -> list[str]:
    """No answers."""
    raise ZeroDivisionError("by the teacher")


def picky(rows: Rows) -> list[str]:
    """Capitals, after a while; no answer to a line that says "broken", for which this waits until another row is under way."""
    if any("broken" in row["line"] for row in rows):
        while not Path(os.environ[LOG]).exists():
            time.sleep(0.01)
        raise ZeroDivisionError("by the teacher")
    note(rows)
    time.sleep(0.5)
    return [row["line"].upper() for row in rows]


def note(rows: Rows) -> None:
    """Write down who was asked about what."""
    if LOG in os.environ:
        with Path(os.environ[LOG]).open("a") as file:
            file.write("".join(f"{os.getpid()} {row['line']}|{row['after']}\n" for row in rows))

"""Processes: what several of them, started by ``torchrun``, have to agree on; alone, a process agrees with itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, TypeVar

import torch
from accelerate import PartialState
from torch import distributed

from pocketseq.errors import TrainingError

_WAIT_S: Final = 24 * 60 * 60
"""Seconds that processes wait for one another. One of them may validate, or learn a vocabulary, for longer than the half hour, or
with accelerators ten minutes, that torch allows; that one has died is the launcher's to find, which ends the others at once."""

T = TypeVar("T")


def backend() -> str | None:
    """How processes talk to one another; None leaves the choice to the accelerator, or where there is nobody to talk to."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    return None if alone or torch.cuda.is_available() else "gloo"


def joined() -> PartialState:
    """The processes of this training, met for the first time where that has not happened."""
    if PartialState._shared_state:
        return PartialState()
    chosen = backend()
    return PartialState(
        cpu=not torch.cuda.is_available(), timeout=timedelta(seconds=_WAIT_S), **({"backend": chosen} if chosen else {})
    )


def is_first() -> bool:
    """Whether this process is the one that writes files and speaks to people."""
    return bool(joined().is_main_process)


@contextmanager
def first_before_others() -> Iterator[None]:
    """Run a block in the first process, then in the others, which find done what it did."""
    with joined().main_process_first():
        yield


def of_first(value: T) -> T:
    """What the first process holds, in all of them: clocks and rounding differ, decisions may not."""
    if joined().num_processes == 1:
        return value
    held = [value]
    distributed.broadcast_object_list(held, src=0)
    return held[0]


def check_agreed(value: object, what: str) -> None:
    """Refuse to go on where processes found unlike things on the disk.

    Args:
        value: What this one found.
        what: What that is, in words.

    Raises:
        TrainingError: in all of them, where they differ.
    """
    processes = joined().num_processes
    if processes == 1:
        return
    found: list[object] = [None] * processes
    distributed.all_gather_object(found, value)
    if any(one != value for one in found):
        raise TrainingError(
            f"expected all {processes} processes to find the same {what}, found {', '.join(map(str, found))}; "
            "the output folder must be one that all processes share"
        )


def share_of(count: int) -> range:
    """Places of this process's share of so many pieces of work: every n-th of n processes."""
    return range(joined().process_index, count, joined().num_processes)


def wait_for_all() -> None:
    """Go on when every process has come so far."""
    joined().wait_for_everyone()

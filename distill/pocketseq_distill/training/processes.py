"""Processes: what several of them, started by ``torchrun``, have to agree on; alone, a process agrees with itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import PartialState
from torch import distributed

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
    return PartialState(cpu=not torch.cuda.is_available(), **({"backend": chosen} if chosen else {}))


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


def wait_for_all() -> None:
    """Go on when every process has come so far."""
    joined().wait_for_everyone()

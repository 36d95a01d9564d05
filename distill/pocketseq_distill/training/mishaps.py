"""Mishaps: what a machine does to a training, told as what to change, with the way back."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError

from pocketseq.errors import TrainingError
from pocketseq_distill.memory import first_line, ran_out
from pocketseq_distill.precision import has_bf16
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.processes import joined
from pocketseq_distill.training.resumption import last_complete_checkpoint

_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DISK_SIGNS: Final = ("No space left", "Disk quota", "File too large", "PytorchStreamWriter failed", "unexpected pos")


@contextmanager
def advice(plan: TrainingPlan, state_dir: Path) -> Iterator[None]:
    """Turn memory that ran out and a disk that is full into errors that say what to change.

    Args:
        plan: The plan that the block follows.
        state_dir: Where its checkpoints are; what was half written is removed, the last whole one stays.

    Raises:
        TrainingError: in the place of either.
    """
    try:
        yield
    except (MemoryError, OSError, SafetensorError, RuntimeError) as error:
        if ran_out(error):
            raise TrainingError(_memory(plan, state_dir, error)) from error
        if (isinstance(error, OSError) and error.errno in _DISK) or any(sign in str(error) for sign in _DISK_SIGNS):
            raise TrainingError(_disk(state_dir, error)) from error
        raise


def _memory(plan: TrainingPlan, state_dir: Path, error: BaseException) -> str:
    smaller = max(plan.batch_size // 2, 1)
    batches = -(-plan.batch_size * plan.accumulation // smaller)
    halved = not plan.bf16 and has_bf16("cuda" if torch.cuda.is_available() else "cpu")
    divided = ", or tokens_at_once, which divides the longest batches alone" if joined().num_processes == 1 else ""
    return (
        f"expected an update of {plan.batch_size} rows at a time to fit into memory, found: {first_line(error)}; "
        f"try batch_size = {smaller} with accumulation = {batches}, which gives the same updates in less memory"
        f"{divided}{', or bf16 = true' if halved else ''}; {_kept(state_dir)}"
    )


def _disk(state_dir: Path, error: BaseException) -> str:
    kept = _kept(state_dir)
    return f"{state_dir}: expected room for a checkpoint, found: {first_line(error)}; free some and call again; {kept}"


def _kept(state_dir: Path) -> str:
    last = last_complete_checkpoint(state_dir)
    return "no checkpoint had been written yet" if last is None else f"the training goes on from {last.name}, which is whole"

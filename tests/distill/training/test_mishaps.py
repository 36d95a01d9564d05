"""What a machine does to a training ends in advice, and the checkpoints stay."""

from __future__ import annotations

import resource
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distill.models import copy_rows, make_t5

from pocketseq.errors import MissingExtraError, TrainingError
from pocketseq_distill.training import arguments, mishaps
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.resumption import last_complete_checkpoint

PLAN = TrainingPlan(steps=3, batch_size=16, warmup_steps=0, bf16=False)
ROWS = copy_rows(64)


@pytest.mark.parametrize(("has_it", "more"), [(True, ", or bf16 = true"), (False, "")])
def test_memory_that_runs_out_ends_in_advice_and_the_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_it: bool, more: str
) -> None:
    """The error names what was asked for, a batch that is half as large with updates that are the same, numbers of half the size
    where the device computes with them, and where to go on."""
    monkeypatch.setattr(mishaps, "has_bf16", lambda _: has_it)
    train(make_t5(), ROWS, PLAN, state_dir=tmp_path)
    model = make_t5()

    def exhaust(*_: Any) -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    model.get_decoder().register_forward_pre_hook(exhaust)
    expected = (
        "expected an update of 16 rows at a time to fit into memory, found: .*; try batch_size = 8 with accumulation = 2, "
        "which gives the same updates in less memory, or tokens_at_once, which divides the longest batches alone"
        f"{more}; the training goes on from checkpoint-3, which is whole"
    )
    with pytest.raises(TrainingError, match=expected):
        train(model, ROWS, replace(PLAN, steps=6), state_dir=tmp_path)
    assert train(make_t5(), ROWS, replace(PLAN, steps=6), state_dir=tmp_path).steps == 6


def test_a_full_disk_ends_in_advice_and_the_last_whole_checkpoint_stays(tmp_path: Path) -> None:
    """What was half written is gone; with room again the same call goes on."""
    train(make_t5(), ROWS, PLAN, state_dir=tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(
            TrainingError, match=r"expected room for a checkpoint, found: .*; free some and call again; .* checkpoint-3"
        ):
            train(make_t5(), ROWS, replace(PLAN, steps=6), state_dir=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert train(make_t5(), ROWS, replace(PLAN, steps=6), state_dir=tmp_path).steps == 6
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-6"


def test_another_error_is_not_dressed_up(tmp_path: Path) -> None:
    """What is neither memory nor disk comes through as it is."""
    model = make_t5()

    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    model.get_decoder().register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match=r"^a bug$"):
        train(model, ROWS, PLAN, state_dir=tmp_path)


def test_a_tracker_that_is_not_installed_ends_in_its_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is trained."""
    monkeypatch.setattr(arguments, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'not installed; mend it with: pip install "pocketseq\[wandb\]"'):
        train(make_t5(), ROWS, replace(PLAN, report_to=("wandb",)), state_dir=tmp_path)


def test_tensorboard_is_told_of_loss_and_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events hold both, and stand beside the state of the training: a longer plan goes on there, another course elsewhere."""
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    plan = replace(PLAN, steps=10, validate_every=5, report_to=("tensorboard",))

    def folders() -> list[Path]:
        state = tmp_path / "student.training"
        train(make_t5(), ROWS, plan, state_dir=state, validation=lambda _: {"exact_match": 0.25})
        assert not list(state.rglob("*tfevents*"))
        return sorted({path.parent for path in (tmp_path / "student.tensorboard").rglob("*tfevents*")})

    (folder,) = folders()
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"train/loss" in content
    assert b"eval/exact_match" in content
    plan = replace(plan, steps=20)
    assert folders() == [folder]
    plan = replace(plan, learning_rate=2e-3)
    assert len(folders()) == 2

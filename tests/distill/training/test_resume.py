"""A training that was killed goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.distill.models import copy_rows, make_t5
from transformers import PreTrainedModel

from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.resumption import last_complete_checkpoint

# 64 rows make four updates an epoch: every resumption below falls into the middle of a later epoch, and dropout is on.
PLAN = TrainingPlan(steps=25, batch_size=16, learning_rate=3e-3, warmup_steps=5, schedule="constant", seed=7)
ROWS = copy_rows(64)

VICTIM = """
from dataclasses import replace
from pathlib import Path
import sys
sys.path[:0] = sys.argv[2:]
import torch
torch.set_num_threads(1)
from pocketseq_distill.training.course import train
from tests.distill.models import make_t5
from tests.distill.training.test_resume import PLAN, ROWS
train(make_t5(dropout=0.1), ROWS, replace(PLAN, steps=100_000, save_every_minutes=0.0), state_dir=Path(sys.argv[1]))
"""


def assert_same_weights(one: PreTrainedModel, other: PreTrainedModel) -> None:
    for (name, left), right in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


def newest(state_dir: Path) -> int:
    return max((int(path.name.rpartition("-")[2]) for path in state_dir.glob("checkpoint-*")), default=0)


def trained_straight(folder: Path, plan: TrainingPlan = PLAN) -> PreTrainedModel:
    model = make_t5(dropout=0.1)
    train(model, ROWS, plan, state_dir=folder)
    return model


def test_a_process_killed_in_training_resumes_and_ends_where_it_should(tmp_path: Path) -> None:
    """``kill -9`` while checkpoints are being written: the same call ends with the same steps and the very same weights."""
    state_dir = tmp_path / "killed"
    root = Path(__file__).parents[3]
    paths = [str(root), str(root / "sdk"), str(root / "distill")]
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(state_dir), *paths],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    try:
        while newest(state_dir) < 3 and time.monotonic() < deadline:
            assert victim.poll() is None, "the training ended before it could be killed"
            time.sleep(0.002)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    killed_at = newest(state_dir)
    assert killed_at >= 3
    plan = replace(PLAN, steps=killed_at + 10)
    model = make_t5(dropout=0.1)
    trained = train(model, ROWS, plan, state_dir=state_dir)
    assert trained.steps == plan.steps
    assert_same_weights(model, trained_straight(tmp_path / "straight", plan))


def test_a_longer_plan_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    """More steps on the same course: the first ones are not trained again, and the result is the same to the bit."""
    train(make_t5(dropout=0.1), ROWS, replace(PLAN, steps=10), state_dir=tmp_path / "grown")
    model = make_t5(dropout=0.1)
    trained = train(model, ROWS, PLAN, state_dir=tmp_path / "grown")
    assert trained.steps == PLAN.steps
    assert_same_weights(model, trained_straight(tmp_path / "straight"))


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    """The second call gives the weights and the number of steps of the first."""
    first = trained_straight(tmp_path)
    second = make_t5(dropout=0.1, seed=0)
    trained = train(second, ROWS, PLAN, state_dir=tmp_path)
    assert trained.steps == PLAN.steps
    assert_same_weights(first, second)


def test_a_finished_training_gives_its_best_weights_from_wherever_it_lies(tmp_path: Path) -> None:
    """Moved with its run directory, it still knows which of its checkpoints was best."""
    scores = iter([0.1, 0.9, 0.2])
    plan = replace(PLAN, steps=9, validate_every=3)
    first = make_t5(dropout=0.1)
    train(first, ROWS, plan, state_dir=tmp_path / "here", validation=lambda _: {"exact_match": next(scores)})
    (tmp_path / "here").rename(tmp_path / "there")
    second = make_t5(dropout=0.1)
    trained = train(second, ROWS, plan, state_dir=tmp_path / "there", validation=lambda _: {"exact_match": 0.0})
    assert trained.best == 0.9
    assert_same_weights(first, second)


def test_the_clock_goes_on_where_it_stood(tmp_path: Path) -> None:
    """The budget counts interrupted runs together, so a spent one trains no further."""
    plan = replace(PLAN, steps=10_000, max_minutes=0.001)
    first = train(make_t5(), ROWS, plan, state_dir=tmp_path)
    again = train(make_t5(), ROWS, plan, state_dir=tmp_path)
    assert again.steps == first.steps
    assert again.minutes >= plan.max_minutes  # type: ignore[operator]


def test_other_rows_start_over(tmp_path: Path) -> None:
    """What lies there belongs to another training: it is not mixed in."""
    train(make_t5(), ROWS, replace(PLAN, steps=10), state_dir=tmp_path)
    trained = train(make_t5(), copy_rows(64, seed=1), replace(PLAN, steps=5), state_dir=tmp_path)
    assert trained.steps == 5


@pytest.mark.parametrize("state", [None, "", '{"global_step": 9'])
def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path, state: str | None) -> None:
    """The newest checkpoint that was written to its end counts; the rest is removed."""
    train(make_t5(), ROWS, replace(PLAN, steps=3), state_dir=tmp_path)
    half = tmp_path / "checkpoint-9"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    if state is not None:
        (half / "trainer_state.json").write_text(state)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    assert not half.exists()

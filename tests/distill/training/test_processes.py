"""Two processes train as one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.distill.models import copy_rows, make_t5
from transformers import T5Config, T5ForConditionalGeneration

from pocketseq_distill.losses.matching import LayerMap
from pocketseq_distill.training import processes
from pocketseq_distill.training.batches import GroupedOrder
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan

# 64 rows make four updates: ten reach into the third epoch, and the trainer tells the loss of ten.
PLAN = TrainingPlan(
    steps=10,
    batch_size=16,
    learning_rate=3e-3,
    warmup_steps=0,
    schedule="constant",
    bf16=False,
    divergence=1.0,
    average=0.9,
    hidden=0.1,
)
ROWS = copy_rows(64)

WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import torch
torch.set_num_threads(1)
from tests.distill.training.test_processes import PLAN, losses
losses(Path(sys.argv[1]), replace(PLAN, batch_size=4, accumulation=2, max_minutes=60, save_every_minutes=0.0))
"""


def losses(folder: Path, plan: TrainingPlan) -> None:
    """Train, and write down the losses."""
    torch.manual_seed(0)
    student = T5ForConditionalGeneration(T5Config(**{**make_t5().config.to_dict(), "d_model": 8, "tie_word_embeddings": False}))
    layers = LayerMap(encoder=(0, 1), decoder=(0, 1))
    trained = train(student, ROWS, plan, state_dir=folder / "state", teacher=make_t5(seed=1), layers=layers)
    if processes.is_first():
        (folder / "losses.json").write_text(json.dumps([entry["loss"] for entry in trained.history if "loss" in entry]))
        student.save_pretrained(folder / "student")


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path: Path) -> None:
    """torchrun with two processes over gloo, two accumulated batches each: the updates of one process with the same rows."""
    root = Path(__file__).parents[3]
    paths = [str(root), str(root / "sdk"), str(root / "distill")]
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), str(worker)]
    (tmp_path / "two").mkdir()
    finished = subprocess.run(
        [*command, str(tmp_path / "two"), *paths],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    (tmp_path / "one").mkdir()
    losses(tmp_path / "one", PLAN)
    of_one, of_two = (json.loads((tmp_path / name / "losses.json").read_text()) for name in ("one", "two"))
    assert len(of_one) == 1
    assert of_two == pytest.approx(of_one, rel=1e-4)
    one, two = (load_file(tmp_path / name / "student/model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weights in one.items():
        assert (weights - two[name]).abs().max() < 1e-4 * max(weights.abs().max(), 1.0), name


def test_rows_that_fill_no_update_are_left_out_of_an_epoch_where_several_share_it() -> None:
    """Which rows these are differs between epochs; alone, a process takes all."""
    extents = copy_rows(70).extents
    order = GroupedOrder(extents, update_rows=16, seed=0, whole=True)
    epochs = []
    for epoch in range(2):
        order.set_epoch(epoch)
        epochs.append(list(order))
    assert [len(set(rows)) for rows in epochs] == [len(order)] * 2 == [64, 64]
    assert set(epochs[0]) != set(epochs[1])
    assert len(list(GroupedOrder(extents, update_rows=16, seed=0))) == 70
    assert len(list(GroupedOrder(extents, update_rows=100, seed=0, whole=True))) == 70

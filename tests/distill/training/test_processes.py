"""Two processes train as one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.distill.labelling.test_distributions import Counted
from tests.distill.models import TEMPLATE, copy_rows, make_t5, repair_examples
from torch import distributed
from transformers import T5Config, T5ForConditionalGeneration

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import PocketSeqError
from pocketseq_distill.distil import Data
from pocketseq_distill.ensemble import Ensemble
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling import distributions
from pocketseq_distill.labelling.distributions import teacher_distributions
from pocketseq_distill.losses.matching import LayerMap
from pocketseq_distill.teacher import TeacherSettings
from pocketseq_distill.teaching import train_teachers
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
SHORT_PLAN = TrainingPlan(steps=2, batch_size=8, warmup_steps=0, bf16=False)

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

RESUMING_WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import torch
torch.set_num_threads(1)
from tests.distill.training.test_processes import PLAN, losses
plan = replace(PLAN, batch_size=4, accumulation=2, hidden=0.0, save_every_minutes=0.0)
losses(Path(sys.argv[1]) / "whole", plan)
for steps in (6, 10):
    losses(Path(sys.argv[1]) / "parts", replace(plan, steps=steps))
"""

TEACHING_WORKER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import torch
torch.set_num_threads(1)
from tests.distill.training.test_processes import teach
teach(Path(sys.argv[1]))
"""

SHARING_WORKER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import torch
torch.set_num_threads(1)
from tests.distill.training.test_processes import share, part_ways
share(Path(sys.argv[1]))
part_ways(Path(sys.argv[1]))
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


def teach(folder: Path) -> None:
    """Train two small teachers that answer as one."""
    settings = TeacherSettings(vocab_size=400, d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1, members=2)
    card = CheckpointCard(task="repair", template=TEMPLATE, max_new_tokens=16)
    data = Data(repair_examples(32), repair_examples(8, seed=1), "f")
    train_teachers(
        data, folder / "teacher", card=card, settings=settings, plan=replace(SHORT_PLAN, batch_size=4), recipe_name="tiny"
    )


def share(folder: Path) -> None:
    """Have a teacher asked about four shards, and write down about how many rows this process asked it, and what came of all."""
    distributions._SHARD_ROWS = 16  # type: ignore[misc]
    teacher = Counted(make_t5(seed=1))
    found = teacher_distributions(ROWS, teacher, folder / "shards", teacher_id="one", top_k=4, bf16=False)
    rank = processes.joined().process_index
    (folder / f"shared-{rank}.json").write_text(json.dumps([teacher.rows, found.ids.tolist()]))
    waits = distributed.group.WORLD._get_backend(torch.device("cpu")).options._timeout  # type: ignore[union-attr]
    (folder / f"waits-{rank}.json").write_text(json.dumps(waits.total_seconds()))


def part_ways(folder: Path) -> None:
    """Write down what is said where this process has a folder of its own, as on machines that share no disk."""
    rank = processes.joined().process_index
    said = []
    for going_on in (
        lambda own: teacher_distributions(ROWS, make_t5, own / "shards", teacher_id="one", top_k=4, bf16=False),
        lambda own: train(make_t5(), ROWS, SHORT_PLAN, state_dir=own / "state"),
    ):
        with pytest.raises(PocketSeqError) as found:
            going_on(folder / f"machine-{rank}")
        said.append(f"{type(found.value).__name__}: {found.value}")
    (folder / f"said-{rank}.json").write_text(json.dumps(said))


def run_two(code: str, tmp_path: Path) -> Path:
    """Run a worker in two processes over gloo; gives the folder that it was told to write into."""
    root = Path(__file__).parents[3]
    paths = [str(root), str(root / "sdk"), str(root / "distill")]
    worker = tmp_path / "worker.py"
    worker.write_text(code)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), str(worker)]
    (tmp_path / "two").mkdir(exist_ok=True)
    finished = subprocess.run(
        [*command, str(tmp_path / "two"), *paths],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return tmp_path / "two"


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path: Path) -> None:
    """torchrun with two processes over gloo, two accumulated batches each: the updates of one process with the same rows."""
    run_two(WORKER, tmp_path)
    (tmp_path / "one").mkdir()
    losses(tmp_path / "one", PLAN)
    of_one, of_two = (json.loads((tmp_path / name / "losses.json").read_text()) for name in ("one", "two"))
    assert len(of_one) == 1
    assert of_two == pytest.approx(of_one, rel=1e-4)
    one, two = (load_file(tmp_path / name / "student/model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weights in one.items():
        assert (weights - two[name]).abs().max() < 1e-4 * max(weights.abs().max(), 1.0), name


@pytest.mark.slow
def test_processes_go_on_in_the_middle_of_an_epoch_as_if_nothing_had_been(tmp_path: Path) -> None:
    """With the rows that the epoch has left, in its own order: the weights are the same to the bit."""
    for name in ("whole", "parts"):
        (tmp_path / "two" / name).mkdir(parents=True)
    folder = run_two(RESUMING_WORKER, tmp_path)
    whole, parts = (load_file(folder / name / "student/model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(weight, parts[name]) for name, weight in whole.items())


@pytest.mark.slow
def test_two_processes_train_the_teachers_of_one(tmp_path: Path) -> None:
    """One of them writes vocabulary, members and ensemble, which both read."""
    run_two(TEACHING_WORKER, tmp_path)
    assert isinstance(TeacherModel.load(tmp_path / "two/teacher").model, Ensemble)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["teacher", "teacher.members", "teacher.tokenizer"]
    assert CheckpointCard.read(tmp_path / "two/teacher").training["steps"] == 2


@pytest.mark.slow
def test_processes_share_the_shards_and_refuse_to_go_on_apart(tmp_path: Path) -> None:
    """Each asks the teacher about half of the rows, all wait long for one another, and folders of their own are found out."""
    train(make_t5(), ROWS, replace(SHORT_PLAN, steps=1), state_dir=tmp_path / "two/machine-0/state")
    folder = run_two(SHARING_WORKER, tmp_path)
    (asked, found), (also_asked, also_found) = (json.loads((folder / f"shared-{rank}.json").read_text()) for rank in range(2))
    assert (asked, also_asked) == (32, 32)
    assert found == also_found
    alone = teacher_distributions(ROWS, lambda: make_t5(seed=1), tmp_path / "alone", teacher_id="one", top_k=4, bf16=False)
    assert found == alone.ids.tolist()
    for rank in range(2):
        assert json.loads((folder / f"waits-{rank}.json").read_text()) >= 60 * 60 * 12
        unshared, parted = json.loads((folder / f"said-{rank}.json").read_text())
        assert f"LabellingError: {folder}/machine-{rank}/shards/0000{1 - rank}.safetensors: expected the distributions" in unshared
        assert unshared.endswith("the output folder must be one that all processes share")
        assert parted == (
            "TrainingError: expected all 2 processes to find the same checkpoint to go on from, found checkpoint-1, None; "
            "the output folder must be one that all processes share"
        )


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

"""Recorded updates: what a graph replays is what its shapes computed when they were written out. Needs an accelerator of CUDA's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.distill.models import copy_rows, make_t5
from transformers import PreTrainedModel

from pocketseq_distill.rows import TokenRows
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.trainer import DistillationTrainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
PLAN = TrainingPlan(steps=24, batch_size=16, warmup_steps=2, optimizer="muon", learning_rate=3e-3, label_smoothing=0.1, bf16=False)


def unlike_rows(count: int) -> TokenRows:
    """Rows of three shapes of batch and more."""
    return TokenRows.of(
        [[3 + (i * k) % 20 for k in range(3 + (i * 7) % 30)] for i in range(count)],
        [[*(3 + (i + k) % 20 for k in range(1 + (i * 5) % 20)), 1] for i in range(count)],
    )


def trained(
    model: PreTrainedModel, rows: TokenRows, plan: TrainingPlan, folder: Path, *, recorded: bool
) -> tuple[int, list[torch.Tensor]]:
    trainer = DistillationTrainer(model, rows, plan, state_dir=folder)
    assert trainer._recorded is not None
    graphs = trainer._recorded._records
    if not recorded:
        trainer._recorded = None
    trainer.train()
    return len(graphs), [parameter.detach().cpu() for parameter in model.parameters()]


@pytest.mark.parametrize("bf16", [False, True])
def test_recorded_updates_lead_where_written_ones_do(tmp_path: Path, bf16: bool) -> None:
    """The same weights after two dozen updates of unlike batches, up to rounding."""
    rows, plan = unlike_rows(80), replace(PLAN, bf16=bf16)
    count, weights = trained(make_t5(), rows, plan, tmp_path / "recorded", recorded=True)
    none, written = trained(make_t5(), rows, plan, tmp_path / "written", recorded=False)
    assert count >= 2
    assert none == 0
    furthest = max(float((one - other).abs().max()) for one, other in zip(weights, written, strict=True))
    moved = max(float((one - other.detach().cpu()).abs().max()) for one, other in zip(weights, make_t5().parameters(), strict=True))
    assert furthest < (0.1 if bf16 else 0.01) * moved


def test_every_replay_drops_other_activations(tmp_path: Path) -> None:
    """A graph that held its masks would learn from a part of the model alone."""
    trainer = DistillationTrainer(make_t5(dropout=0.5), copy_rows(16), replace(PLAN, learning_rate=0.0), state_dir=tmp_path)
    trainer.train()
    recorded = trainer._recorded
    assert recorded is not None
    assert recorded._records
    (batch,) = trainer.get_train_dataloader()
    trainer.model.train()
    given = {**batch, "items": torch.tensor(48, device="cuda")}
    assert len({float(recorded(given)) for _ in range(4)}) == 4

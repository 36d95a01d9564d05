"""Narrower students keep the dimensions that carry most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distill.models import MakeModel, copy_rows, make_bart, make_t5
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedModel, T5Config, T5ForConditionalGeneration

from pocketseq.errors import CheckpointError, RecipeError
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.students.pruning import prune_hidden, prune_width
from pocketseq_distill.students.settings import StudentSettings
from pocketseq_distill.students.student import student_of
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan

ROWS = copy_rows(40)


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(3, 15).reshape(2, 6)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=ids, decoder_input_ids=ids[:, :3]).logits
    return logits


def test_all_hidden_units_kept_change_nothing(make_model: MakeModel) -> None:
    """The narrowest check that every matrix is cut along the right side."""
    model = make_model()
    torch.testing.assert_close(logits_of(prune_hidden(model, 32, ROWS)), logits_of(model))


def test_hidden_units_that_write_nothing_go_first(make_model: MakeModel) -> None:
    """With half of the units silenced by hand, cutting that many costs nothing."""
    model = make_model()
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith((".wo", ".fc2")):
                module.weight[:, torch.arange(0, 32, 2)] = 0
    pruned = prune_hidden(model, 16, ROWS)
    torch.testing.assert_close(logits_of(pruned), logits_of(model))
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in model.parameters())


def test_the_whole_width_kept_changes_nothing() -> None:
    """Embeddings, projections, norms and the tied output are all cut along the width."""
    model = make_t5()
    torch.testing.assert_close(logits_of(prune_width(model, 16, ROWS)), logits_of(model))


@pytest.mark.parametrize(
    ("model_class", "config_class", "tied"),
    [
        (T5ForConditionalGeneration, T5Config, True),
        (T5ForConditionalGeneration, T5Config, False),
        (MT5ForConditionalGeneration, MT5Config, False),
    ],
)
def test_dimensions_that_hold_nothing_go_first(model_class: Any, config_class: Any, tied: bool) -> None:
    """A model of which four dimensions are never written nor read: without them it says the same."""
    torch.manual_seed(0)
    model = model_class(
        config_class(
            vocab_size=48,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            dropout_rate=0.0,
            tie_word_embeddings=tied,
            decoder_start_token_id=0,
            layer_norm_epsilon=0.0,
        )
    )
    silent = torch.tensor([1, 5, 6, 12])
    with torch.no_grad():
        model.shared.weight[:, silent] = 0
        for name, parameter in model.named_parameters():
            if name.endswith(("o.weight", "wo.weight")):
                parameter[silent] = 0
    torch.testing.assert_close(logits_of(prune_width(model, 12, ROWS)), logits_of(model))


def test_a_narrower_student_learns(tmp_path: Path) -> None:
    """Layers, hidden units and width together give a model that trains."""
    student = student_of(make_t5(layers=3), StudentSettings(encoder_layers=2, decoder_layers=1, d_ff=16, d_model=12), ROWS)
    assert (student.config.num_layers, student.config.d_ff, student.config.d_model) == (2, 16, 12)
    plan = TrainingPlan(steps=60, batch_size=16, learning_rate=3e-3, warmup_steps=0, bf16=False)
    losses = [entry["loss"] for entry in train(student, copy_rows(256), plan, state_dir=tmp_path).history if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (StudentSettings(d_ff=33), "d_ff: expected 1 to 32, as wide as the teacher is, found 33"),
        (StudentSettings(d_model=17), "d_model: expected 1 to 16, as wide as the teacher is, found 17"),
    ],
)
def test_a_student_is_never_wider_than_its_teacher(settings: StudentSettings, message: str) -> None:
    """The message names the setting, the teacher's size and what was asked."""
    with pytest.raises(RecipeError, match=message):
        student_of(make_t5(), settings, ROWS)


def test_a_family_whose_heads_share_the_width_keeps_it() -> None:
    """BART's heads would change with it."""
    with pytest.raises(CheckpointError, match="found 'bart'; leave d_model out"):
        student_of(make_bart(), StudentSettings(d_model=8), ROWS)


def test_padding_is_not_judged_on() -> None:
    """The pad token's embedding, however loud, decides nothing: it stands where a row has ended."""
    rows = TokenRows.of([[3 + place % 40 for place in range(40)], *([[4, 5, 6]] * 20)], [[3, 1]] * 21)
    quiet, loud = make_t5(), make_t5()
    with torch.no_grad():
        quiet.shared.weight[0] = 0
        loud.shared.weight[0] = 100 * torch.randn(16, generator=torch.Generator().manual_seed(0))
    of_quiet, of_loud = (prune_hidden(model, 8, rows) for model in (quiet, loud))
    for one, other in zip(of_quiet.encoder.block, of_loud.encoder.block, strict=True):
        assert torch.equal(one.layer[1].DenseReluDense.wi.weight, other.layer[1].DenseReluDense.wi.weight)

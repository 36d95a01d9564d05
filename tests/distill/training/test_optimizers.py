"""Muon: orthogonal updates for matrices, AdamW for the rest, one state for both."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.distill.models import make_t5
from torch import nn

from pocketseq_distill.training.optimizers import Muon, orthogonalised


def fill_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 64, 16), (1, 32, 32)])
def test_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    """Wide, tall and square matrices keep their directions and lose their scale, save the weakest directions of square ones."""
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 7
    values = torch.linalg.svdvals(orthogonalised(matrices).float())
    assert values.max() < 1.25
    assert values.median() > 0.65


def test_matrices_move_as_the_reference_moves_them() -> None:
    """Three updates agree with PyTorch's own Muon up to bfloat16's rounding."""
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(24, 48, bias=False), nn.Linear(48, 24, bias=False))
    theirs = copy.deepcopy(ours)
    optimizer = Muon(ours, learning_rate=0.02)
    reference = torch.optim.Muon(theirs.parameters(), lr=0.02, weight_decay=0.01)
    for seed in range(3):
        for model, stepping in ((ours, optimizer), (theirs, reference)):
            fill_gradients(model, seed)
            stepping.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=2e-3, rtol=0)


def test_what_is_no_matrix_goes_by_adamw() -> None:
    """Norms move exactly as PyTorch's AdamW moves them at the rate of their role."""
    ours = nn.LayerNorm(32)
    theirs = copy.deepcopy(ours)
    optimizer = Muon(ours, learning_rate=0.02, betas=(0.9, 0.99))
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.005, betas=(0.9, 0.99), weight_decay=0.0)
    for seed in range(3):
        for model, stepping in ((ours, optimizer), (theirs, reference)):
            fill_gradients(model, seed)
            stepping.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_every_weight_of_a_t5_has_one_role() -> None:
    """Tied embeddings count once and not as a matrix; so do the tables of relative positions."""
    model = make_t5()
    groups = Muon(model, learning_rate=0.01).param_groups
    numbers = [sum(parameter.numel() for parameter in group["params"]) for group in groups]
    assert sum(numbers) == sum(parameter.numel() for parameter in model.parameters())
    assert [id(parameter) for parameter in groups[1]["params"]] == [id(model.shared.weight)]
    assert len(groups[2]["params"]) == 2
    assert all(parameter.ndim == 2 for parameter in groups[0]["params"])
    assert all(parameter.ndim == 1 for parameter in groups[3]["params"])


def test_a_saved_state_goes_on_as_if_never_stopped() -> None:
    """After a round trip through ``state_dict`` the next update is the same to the bit."""
    model = make_t5()
    optimizer = Muon(model, learning_rate=0.01)
    fill_gradients(model, 0)
    optimizer.step()
    other = copy.deepcopy(model)
    resumed = Muon(other, learning_rate=0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, stepping in ((model, optimizer), (other, resumed)):
        fill_gradients(one, 1)
        stepping.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))

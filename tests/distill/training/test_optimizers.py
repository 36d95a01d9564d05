"""Muon: orthogonal updates for matrices, AdamW for the rest, one state for both."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.distill.models import make_bart, make_t5
from torch import nn

from pocketseq_distill.training.optimizers import Muon, orthogonalised


def fill_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 64, 16), (1, 32, 32)])
@pytest.mark.parametrize("size", [7.0, 1e-9])
def test_singular_values_come_near_one(shape: tuple[int, int, int], size: float) -> None:
    """Wide, tall and square matrices keep their directions and lose their scale, save the weakest directions of square ones."""
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * size
    values = torch.linalg.svdvals(orthogonalised(matrices).float())
    before = torch.linalg.svdvals(matrices)
    assert values.max() < 1.25
    assert values[before > 0.01 * before[:, :1]].min() > 0.75


@pytest.mark.parametrize("weakest", [1.0, 0.1, 1e-3])
def test_four_iterations_leave_less_than_the_fixed_five_do(weakest: float) -> None:
    """However unlike the directions are, they end nearer to those of U·Vᵀ than with PyTorch's own Newton-Schulz iterations."""
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(48, 48, generator=generator))[0] for _ in range(2))
    matrix = nn.Parameter(torch.zeros(48, 48))
    matrix.grad = left * torch.logspace(0, math.log10(weakest), 48) @ right.mT
    torch.optim.Muon([matrix], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False).step()
    theirs, ours = -matrix.detach(), orthogonalised(matrix.grad[None])[0].float()
    assert (ours - left @ right.mT).norm() < (theirs - left @ right.mT).norm()


def test_no_direction_of_one_matrix_runs_away() -> None:
    """A single direction, whose singular value is all of the norm, and one of nothing at all."""
    one = torch.outer(torch.linspace(-1, 2, 24), torch.linspace(3, -1, 40))
    values = torch.linalg.svdvals(orthogonalised(torch.stack((one, torch.zeros_like(one)))).float())
    assert 0.75 < values[0, 0] < 1.25
    assert values[1, 0] == 0


def test_matrices_move_as_exact_orthogonalisation_moves_them() -> None:
    """Three updates with momentum stay within a quarter of a step of those by singular value decomposition, in every direction."""
    torch.manual_seed(0)
    rate, decay, momentum = 0.02, 0.01, 0.95
    ours = nn.Sequential(nn.Linear(24, 48, bias=False), nn.Linear(48, 24, bias=False))
    theirs = [layer.weight.detach().clone() for layer in ours if isinstance(layer, nn.Linear)]
    means = [torch.zeros_like(weight) for weight in theirs]
    optimizer = Muon(ours, learning_rate=rate, momentum=momentum, weight_decay=decay)
    for seed in range(3):
        fill_gradients(ours, seed)
        for layer, weight, mean in zip(ours, theirs, means, strict=True):
            gradient = layer.weight.grad
            assert isinstance(gradient, torch.Tensor)
            mean.lerp_(gradient, 1 - momentum)
            left, _, right = torch.linalg.svd(gradient.lerp(mean, momentum), full_matrices=False)
            weight.mul_(1 - rate * decay).sub_(rate * math.sqrt(max(1, weight.size(0) / weight.size(1))) * left @ right)
        optimizer.step()
    for layer, weight in zip(ours, theirs, strict=True):
        assert isinstance(layer.weight, torch.Tensor)
        apart = torch.linalg.matrix_norm(layer.weight - weight, ord=2)
        assert 0 < apart < 0.25 * 3 * rate * math.sqrt(max(1, weight.size(0) / weight.size(1)))


@pytest.mark.parametrize(
    ("family", "into", "out_of"), [("t5", "SelfAttention.q", "SelfAttention.o"), ("bart", "q_proj", "out_proj")]
)
def test_each_attention_head_is_made_orthogonal_by_itself(family: str, into: str, out_of: str) -> None:
    """Rows of what leads into a head, columns of what leads out of it; the whole moves as far as one matrix would."""
    model = make_t5() if family == "t5" else make_bart()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    fill_gradients(model, 0)
    Muon(model, learning_rate=1.0, momentum=0.0, weight_decay=0.0).step()
    seen = 0
    for name, parameter in model.named_parameters():
        if not name.endswith((f"{into}.weight", f"{out_of}.weight")):
            continue
        dimension = 0 if name.endswith(f"{into}.weight") else 1
        assert isinstance(parameter.grad, torch.Tensor)
        moved = before[name] - parameter.detach()
        assert float(moved.norm()) == pytest.approx(math.sqrt(min(moved.shape)), rel=0.15)
        for part, gradient in zip(moved.chunk(2, dimension), parameter.grad.chunk(2, dimension), strict=True):
            left, _, right = torch.linalg.svd(gradient, full_matrices=False)
            # What bfloat16 leaves; a part of the whole made orthogonal is 0.6 away or more.
            assert torch.linalg.matrix_norm(part - left @ right, ord=2) < 0.45
        seen += 1
    assert seen > 1


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

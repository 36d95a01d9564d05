"""Dropout by bytes: the masks of PyTorch's dropout, drawn faster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from pocketseq_distill.training.dropout import ByteDropout


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(1)
    with ByteDropout():
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_as_many_are_dropped_and_the_rest_makes_up_for_them(dtype: torch.dtype, rate: float) -> None:
    """A share of zeros that is the rate, and the same expectation."""
    found = F.dropout(torch.ones(1000, 100, dtype=dtype), rate).float()
    assert found.dtype == torch.float32
    assert (found == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
    assert len(set(found.flatten().tolist())) == 2
    assert found.mean().item() == pytest.approx(1.0, abs=0.01)


def test_gradients_take_the_same_mask() -> None:
    """What was dropped learns nothing."""
    value = torch.ones(7, 5, requires_grad=True)
    found = torch.nn.Dropout(0.5)(value)
    found.sum().backward()
    assert torch.equal(value.grad, found.detach())  # type: ignore[arg-type]


def test_no_two_masks_are_alike_and_the_state_brings_one_back() -> None:
    """Each call draws anew from PyTorch's generator, whose state a resumed training restores."""
    value = torch.ones(100)
    state = torch.get_rng_state()
    first, second = F.dropout(value), F.dropout(value)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(F.dropout(value), first)


def test_in_place() -> None:
    """The activations themselves are overwritten where that is asked for."""
    value = torch.ones(100)
    assert F.dropout(value, 0.5, inplace=True) is value
    assert 0 in value


@pytest.mark.parametrize(("rate", "training", "zeros"), [(0.5, False, 0), (0.0, True, 0), (1.0, True, 100)])
def test_what_needs_no_mask(rate: float, training: bool, zeros: int) -> None:
    """Evaluation, nothing to drop, everything to drop."""
    assert (F.dropout(torch.ones(100), rate, training) == 0).sum() == zeros


def test_other_types_are_left_to_pytorch() -> None:
    """A type whose bits are not known is dropped all the same."""
    assert 0 in F.dropout(torch.ones(100, dtype=torch.float64), 0.5)

"""Products are computed in bfloat16 where a device has instructions for it, and in float32 elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pocketseq_distill.precision import has_bf16, products

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    has_bf16.cache_clear()
    yield
    has_bf16.cache_clear()


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_processor_with_the_instructions_computes_in_bfloat16(instructions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On x86 they come as vectors or as tiles, on Arm as one set."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, instructions: True})
    with products(CPU, bf16=True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_a_processor_without_them_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could compute in bfloat16, one number at a time."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    with products(CPU, bf16=True):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_nobody_computes_in_bfloat16_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor has."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    with products(CPU, bf16=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_this_processor_says_what_it_has() -> None:
    """The names that are looked for are names that PyTorch knows, on x86 at least."""
    capabilities = torch.cpu.get_capabilities()
    if capabilities["architecture"] == "x86_64":
        assert has_bf16("cpu") == (capabilities["avx512_bf16"] or capabilities["amx_bf16"])


@pytest.mark.parametrize("there", [True, False])
def test_an_earlier_pytorch_is_asked_what_it_can_tell(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no list of capabilities."""
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there)
    assert has_bf16("cpu") == there


@pytest.mark.parametrize("there", [True, False])
def test_an_accelerator_is_asked_for_instructions_and_not_for_emulation(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards of before compute in bfloat16 too, slowly."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or there)
    assert has_bf16("cuda") == there

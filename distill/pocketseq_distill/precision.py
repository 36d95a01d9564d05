"""Precision: products in bfloat16 where a device has instructions for it, in float32 elsewhere.

A processor without them computes in bfloat16 all the same, but slower than in float32; with AVX2 alone one number at a time, and
many times as long. A plan that asks for bfloat16 means it where it pays.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import torch

_INSTRUCTIONS: Final = ("avx512_bf16", "amx_bf16", "bf16")
"""What PyTorch calls them on x86, where there are two sets, and on Arm."""


@cache
def has_bf16(kind: str) -> bool:
    """Whether devices of a kind, as ``torch.device.type`` calls it, have instructions for bfloat16."""
    if kind == "cpu":
        if hasattr(torch.cpu, "get_capabilities"):
            capabilities = torch.cpu.get_capabilities()
            return any(capabilities.get(name, False) for name in _INSTRUCTIONS)
        return bool(torch.cpu._is_avx512_bf16_supported())  # all that earlier releases tell
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True


def products(device: torch.device, *, bf16: bool) -> torch.autocast:
    """A context in which matrix products are computed in bfloat16, if asked for and if the device has it.

    Args:
        device: Where they are computed.
        bf16: Whether bfloat16 is wanted.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16 and has_bf16(device.type))

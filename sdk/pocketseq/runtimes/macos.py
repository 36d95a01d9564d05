"""Which macOS a Core ML variant needs, said before anything is loaded."""

from __future__ import annotations

import platform
from typing import Final, TypeAlias

from pocketseq.manifest import Variant

Version: TypeAlias = tuple[int, int]

STATEFUL: Final[Version] = (15, 0)
"""macOS that keeps states and runs one of several functions of a package."""
STATELESS: Final[Version] = (13, 0)
"""macOS that runs programs with int8 weights."""
CHECK: Final = "python -m pocketseq_bench.coreml_check BUNDLE ROWS.jsonl"
"""What a person with a Mac runs to check a bundle's Core ML variants."""


def macos_version() -> Version | None:
    """Major and minor version of this macOS; None on another system."""
    if platform.system() != "Darwin":
        return None
    major, minor, *_ = [*platform.mac_ver()[0].split("."), "0"]
    return int(major), int(minor)


def stateful(precision: str) -> bool:
    """Whether Core ML keeps the cache of a variant: all do but ``fp32``, since states are float16, and those named so."""
    return precision != "fp32" and not precision.endswith("-stateless")


def needs_macos(precision: str) -> Version:
    """Oldest macOS that runs a variant of this precision."""
    return STATEFUL if stateful(precision) else STATELESS


def macos_problem(variant: Variant) -> str | None:
    """Why this system cannot run a Core ML variant, with the remedy; None where it can."""
    found, needed = macos_version(), needs_macos(variant.precision)
    if found is None:
        return (
            f"the variant {variant.label} is run by Core ML, which needs macOS {needed[0]} or newer, found {platform.system()}; "
            f"choose another variant here, or check this one on a Mac with: {CHECK}"
        )
    if found >= needed:
        return None
    older = (
        f"load the precision '{variant.precision}-stateless', which needs macOS {STATELESS[0]}, or " if found >= STATELESS else ""
    )
    return (
        f"the variant {variant.label} needs macOS {needed[0]} or newer, found macOS {found[0]}.{found[1]}; "
        f"{older}choose a variant of another runtime"
    )

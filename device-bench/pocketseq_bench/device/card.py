"""Device and bundle cards: a number without its machine says little."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from pocketseq.files import digest
from pocketseq.machine import processor
from pocketseq.manifest import Manifest
from pocketseq_bench.device.powered import power_mode
from pocketseq_bench.device.processes import psutil_or_none
from pocketseq_bench.document import BundleCard, DeviceCard

LIBRARIES: Final = ("pocketseq", "numpy", "tokenizers", "onnxruntime", "ai-edge-litert", "tflite-runtime", "coremltools", "psutil")
EXTENSIONS: Final = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""Instruction sets that matter to the kernels of a small model, by the names that Linux gives them."""


def device_card() -> DeviceCard:
    """Describe this machine; no host or user name."""
    psutil = psutil_or_none()
    libraries = {name: found for name in LIBRARIES if (found := _version(name)) is not None}
    return DeviceCard(
        processor=processor(),
        machine=platform.machine(),
        extensions=_extensions(),
        physical_cores=psutil.cpu_count(logical=False) if psutil else None,
        logical_cores=_usable_cores(),
        memory_bytes=psutil.virtual_memory().total if psutil else _memory_bytes(),
        os=f"{platform.system()} {platform.release()}",
        power_mode=power_mode(),
        python=platform.python_version(),
        libraries=libraries,
    )


def bundle_card(manifest: Manifest) -> BundleCard:
    """Describe a bundle by all that it holds."""
    files = {manifest.tokenizer, *(file for variant in manifest.variants for file in variant.files)}
    content = digest(sorted([file.path, file.sha256] for file in files))
    return BundleCard(name=manifest.name, version=manifest.version, task=manifest.task, hash=content)


def _extensions() -> tuple[str, ...]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        words = next(line for line in lines if line.startswith(("flags", "Features"))).partition(":")[2].split()
    except (OSError, StopIteration):
        words = _mac_features() if sys.platform == "darwin" else _numpy_features()
    return tuple(name for name in EXTENSIONS if name in words)


def _mac_features() -> list[str]:
    asked = {"asimd": "AdvSIMD", "asimdhp": "arm.FEAT_FP16", "asimddp": "arm.FEAT_DotProd", "i8mm": "arm.FEAT_I8MM"}
    asked |= {"bf16": "arm.FEAT_BF16", "sme": "arm.FEAT_SME", "avx2": "avx2_0", "avx512f": "avx512f", "fma": "fma"}
    return [name for name, key in asked.items() if _output("sysctl", "-n", f"hw.optional.{key}") == "1"]


def _numpy_features() -> list[str]:
    """What numpy found out for its own kernels; no system call tells it on Windows."""
    try:
        found = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return []
    return [str(name).lower() for name, there in found.items() if there]


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return None


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603 fixed words
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

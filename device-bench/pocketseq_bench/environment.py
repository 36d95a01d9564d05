"""Where a measurement was made: a number without its machine says little."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pocketseq.errors import MissingExtraError
from pocketseq.machine import processor

LIBRARIES: Final = ("pocketseq", "numpy", "onnxruntime", "tokenizers", "torch", "transformers")


def environment() -> dict[str, Any]:
    """Describe this machine and the libraries that took part, as JSON values; no host or user name.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    try:
        import psutil
    except ImportError as error:
        raise MissingExtraError("bench", "psutil") from error
    return {
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": processor(),
        "logical_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name)) is not None},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

"""From a variant of a bundle to a runtime that is ready to run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pocketseq.bundle import Bundle
from pocketseq.errors import RuntimeUnavailableError
from pocketseq.manifest import Geometry, Variant
from pocketseq.runtimes.protocol import AnyRuntime


@dataclass(frozen=True, slots=True)
class Library:
    """What runs the variants of one runtime."""

    modules: tuple[str, ...]
    """One of them must be installed; the first goes before the others."""
    remedy: str
    """Command that installs it."""
    open: Callable[[Mapping[str, Path], Geometry, int], AnyRuntime]
    """From verified files by path within the bundle, geometry and threads to a runtime; imports the library."""
    platform: str | None = None
    """``sys.platform`` where it runs; None is everywhere."""


def _open_onnx(files: Mapping[str, Path], geometry: Geometry, threads: int) -> AnyRuntime:
    from pocketseq.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(files, geometry, threads=threads)


def _open_litert(files: Mapping[str, Path], geometry: Geometry, threads: int) -> AnyRuntime:
    from pocketseq.runtimes.litert import LiteRtRuntime

    return LiteRtRuntime(files, geometry, threads=threads)


LIBRARIES: Final[Mapping[str, Library]] = {
    "onnx": Library(("onnxruntime",), "pip install onnxruntime", _open_onnx),
    "tflite": Library(("ai_edge_litert", "tflite_runtime"), 'pip install "pocketseq[litert]"', _open_litert),
}
"""By the runtime's name in a manifest."""


def require_runtime(variant: Variant) -> None:
    """Check, without importing it, that the library that a variant needs is installed.

    Raises:
        RuntimeUnavailableError: unknown to this version, of another system, or not installed.
    """
    library = LIBRARIES.get(variant.runtime)
    if library is None:
        raise RuntimeUnavailableError(
            f"expected a runtime among {sorted(LIBRARIES)}, found {variant.runtime!r}; "
            'choose another variant, or mend it with: pip install --upgrade "pocketseq"'
        )
    if library.platform not in (None, sys.platform):
        raise RuntimeUnavailableError(
            f"the variant {variant.label} needs a system of the kind {library.platform!r}, found {sys.platform!r}; "
            "choose another variant"
        )
    if not any(find_spec(module) for module in library.modules):
        raise RuntimeUnavailableError(
            f"the variant {variant.label} needs the module {' or '.join(map(repr, library.modules))}, which is not installed; "
            f"mend it with: {library.remedy}"
        )


def open_runtime(bundle: Bundle, variant: Variant, *, threads: int = 1) -> AnyRuntime:
    """Verify a variant's files and hand them to its runtime.

    Args:
        bundle: The bundle that holds the variant.
        variant: One of its variants.
        threads: Threads for one call. One is fastest for small models, and leaves the other cores alone.

    Raises:
        RuntimeUnavailableError: the library is not installed or cannot run these files.
        BundleCorruptError: a file is missing, truncated or changed.
    """
    require_runtime(variant)
    return LIBRARIES[variant.runtime].open(bundle.paths(variant.files), bundle.manifest.geometry, threads)

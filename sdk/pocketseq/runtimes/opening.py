"""From a variant of a bundle to a runtime that is ready to run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from pocketseq.bundle import Bundle
from pocketseq.errors import RuntimeUnavailableError
from pocketseq.manifest import Variant
from pocketseq.runtimes.protocol import AnyRuntime

_LIBRARIES: Final = {"onnx": "onnxruntime"}
"""Module that a runtime needs, by the runtime's name in a manifest."""


def require_runtime(variant: Variant) -> None:
    """Check, without importing it, that the library that a variant needs is installed.

    Raises:
        RuntimeUnavailableError: unknown to this version, or not installed.
    """
    library = _LIBRARIES.get(variant.runtime)
    if library is None:
        raise RuntimeUnavailableError(
            f"expected a runtime among {sorted(_LIBRARIES)}, found {variant.runtime!r}; "
            'choose another variant, or mend it with: pip install --upgrade "pocketseq"'
        )
    if find_spec(library) is None:
        raise RuntimeUnavailableError(
            f"the variant {variant.label} needs the module {library!r}, which is not installed; mend it with: pip install {library}"
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
    from pocketseq.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(bundle.paths(variant.files), bundle.manifest.geometry, threads=threads)

"""From a variant of a bundle to a runtime that is ready to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pocketseq.bundle import Bundle
from pocketseq.errors import RuntimeUnavailableError
from pocketseq.manifest import Geometry, Manifest, Variant
from pocketseq.runtimes.macos import macos_problem
from pocketseq.runtimes.protocol import AnyRuntime


@dataclass(frozen=True, slots=True)
class Library:
    """What runs the variants of one runtime."""

    modules: tuple[str, ...]
    """One of them must be installed; the first goes before the others."""
    remedy: str
    """Command that installs it."""
    open: Callable[..., AnyRuntime]
    """From verified files by path within the bundle, geometry, threads and, for Core ML, ``compute_units``, for ONNX ``cache``, to
    a runtime; imports the library."""
    problem: Callable[[Variant], str | None] = lambda _: None
    """Why this system cannot run a variant, with the remedy; None where it can."""


def _open_onnx(files: Mapping[str, Path], geometry: Geometry, threads: int, **cache: Any) -> AnyRuntime:
    from pocketseq.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(files, geometry, threads=threads, **cache)


def _open_litert(files: Mapping[str, Path], geometry: Geometry, threads: int) -> AnyRuntime:
    from pocketseq.runtimes.litert import LiteRtRuntime

    return LiteRtRuntime(files, geometry, threads=threads)


def _open_coreml(files: Mapping[str, Path], geometry: Geometry, threads: int, **units: Any) -> AnyRuntime:
    from pocketseq.runtimes.coreml import CoreMlRuntime

    return CoreMlRuntime(files, geometry, threads=threads, **units)


LIBRARIES: Final[Mapping[str, Library]] = {
    "coreml": Library(("coremltools",), "pip install coremltools", _open_coreml, macos_problem),
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
    if problem := library.problem(variant):
        raise RuntimeUnavailableError(problem)
    if not any(find_spec(module) for module in library.modules):
        raise RuntimeUnavailableError(
            f"the variant {variant.label} needs the module {' or '.join(map(repr, library.modules))}, which is not installed; "
            f"mend it with: {library.remedy}"
        )


def choose_variant(manifest: Manifest, *, runtime: str | None = None, precision: str | None = None) -> Variant:
    """Find the first variant with this runtime and precision that this system can run; None takes any.

    Raises:
        VariantNotFoundError: the bundle has none of that kind.
        RuntimeUnavailableError: it has, and none of them runs here; why the first does not.
    """
    first = manifest.variant(runtime=runtime, precision=precision)
    for variant in manifest.variants:
        if runtime in (None, variant.runtime) and precision in (None, variant.precision) and _runs(variant):
            return variant
    require_runtime(first)
    return first


def _runs(variant: Variant) -> bool:
    try:
        require_runtime(variant)
    except RuntimeUnavailableError:
        return False
    return True


def open_runtime(
    bundle: Bundle,
    variant: Variant,
    *,
    threads: int = 1,
    compute_units: str | None = None,
    graph_cache: bool | str | Path = False,
) -> AnyRuntime:
    """Verify a variant's files and hand them to its runtime.

    Args:
        bundle: The bundle that holds the variant.
        variant: One of its variants.
        threads: Threads for one call. One is fastest for small models, and leaves the other cores alone.
        compute_units: Where Core ML may run a variant, see ``runtimes.coreml.ComputeUnits``; None is Core ML's default here, and
            all that the other runtimes take.
        graph_cache: Where what onnxruntime makes of an ONNX variant's graphs is kept, see ``runtimes.graphs.graph_cache``; other
            runtimes have no such graphs.

    Raises:
        RuntimeUnavailableError: the library is not installed or cannot run these files.
        BundleCorruptError: a file is missing, truncated or changed.
    """
    require_runtime(variant)
    if compute_units is not None and variant.runtime != "coreml":
        raise RuntimeUnavailableError(
            f"expected compute units for a Core ML variant only, found {compute_units!r} for {variant.label}; leave them out"
        )
    more: dict[str, Any] = {} if compute_units is None else {"compute_units": compute_units}
    if variant.runtime == "onnx" and graph_cache is not False:
        from pocketseq.runtimes.graphs import graph_cache as cache_of

        more["cache"] = cache_of(bundle, variant, graph_cache)
    return LIBRARIES[variant.runtime].open(bundle.paths(variant.files), bundle.manifest.geometry, threads, **more)

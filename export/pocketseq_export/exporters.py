"""The runtimes that programs can be written for, each in a package of its own that is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

from pocketseq.errors import BundleError, MissingExtraError

if TYPE_CHECKING:
    from pocketseq_export.graphs import EncoderDecoder

_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "onnx": ("onnx",),
    "tflite": ("litert_torch", "ai_edge_quantizer"),
    "coreml": ("coremltools",),
}
"""Modules that writing for a runtime needs beside torch; the extra that brings them has the runtime's name."""
RUNTIMES: Final = tuple(_NEEDS)
"""What this version writes programs for, whether or not their extra is installed."""


class Exporter(Protocol):
    """What the package of a runtime offers."""

    @property
    def PRECISIONS(self) -> Collection[str]:  # noqa: N802 a constant of the module
        """Precisions that the runtime can hold."""

    def write_programs(
        self, model: EncoderDecoder, directory: Path, *, precision: str, keep: Collection[str] = ()
    ) -> tuple[Path, ...]:
        """Write one variant.

        Args:
            model: See ``author``.
            directory: The runtime's folder of the bundle; it exists, and may hold other variants.
            precision: One of ``PRECISIONS``.
            keep: Names of linear layers of the model (``model.named_modules()``) that are written at full precision all the same.

        Returns:
            The files.

        Raises:
            CheckpointError: weights that the precision cannot hold.
        """


def exporter(runtime: str) -> Exporter:
    """Import what writes programs for a runtime.

    Raises:
        BundleError: no such runtime.
        MissingExtraError: its libraries are not installed.
    """
    if runtime not in RUNTIMES:
        raise BundleError(f"expected each runtime to be one of {', '.join(RUNTIMES)}, found {runtime}")
    for module in ("torch", "transformers", *_NEEDS[runtime]):
        if find_spec(module) is None:
            raise MissingExtraError(runtime, module)
    return cast("Exporter", importlib.import_module(f"{__package__}.{runtime}"))


def wanted_variants(runtimes: Sequence[str], precisions: Sequence[str]) -> tuple[str, ...]:
    """Spell out which variants are asked for.

    Args:
        runtimes: Such as ``["onnx", "tflite"]``.
        precisions: Such as ``int8``, for every one of the runtimes, or ``onnx/int4`` for one of them.

    Returns:
        Labels such as ``onnx/int8``, in the order given.

    Raises:
        BundleError: an unknown runtime, a precision that a runtime cannot hold, or nothing at all.
        MissingExtraError: a runtime's libraries are not installed.
    """
    if not runtimes or not precisions:
        raise BundleError(f"expected at least one {'runtime' if precisions else 'precision'}, found none")
    wanted: list[str] = []
    for runtime in dict.fromkeys(runtimes):
        known = exporter(runtime).PRECISIONS
        asked = [name.removeprefix(f"{runtime}/") for name in precisions if "/" not in name or name.startswith(f"{runtime}/")]
        if unknown := [name for name in asked if name not in known]:
            raise BundleError(
                f"expected precisions that {runtime} can hold ({', '.join(known)}), found {', '.join(unknown)}; "
                "a precision for one runtime alone is written with its name, as onnx/int4"
            )
        wanted += [f"{runtime}/{name}" for name in dict.fromkeys(asked)]
    if strays := [name for name in precisions if "/" in name and name.partition("/")[0] not in runtimes]:
        raise BundleError(f"expected precisions of {', '.join(runtimes)}, found {', '.join(strays)}; name their runtime too")
    return tuple(wanted)

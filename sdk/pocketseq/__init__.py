"""Small sequence-to-sequence models on the device, with a calibrated confidence and a cloud to ask.

The names are imported when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketseq.bundle import Bundle, open_bundle, pack, packaged_bundles, write_manifest
    from pocketseq.checkpoint import CheckpointCard
    from pocketseq.decoding import Sampling
    from pocketseq.errors import PocketSeqError
    from pocketseq.examples import Example, read_examples, write_examples
    from pocketseq.manifest import Calibration, Manifest, Variant
    from pocketseq.model import PocketModel
    from pocketseq.results import Result, Timing
    from pocketseq.template import Field, Template

__version__: str

_HOMES = {
    "bundle": ("Bundle", "open_bundle", "pack", "packaged_bundles", "write_manifest"),
    "checkpoint": ("CheckpointCard",),
    "decoding": ("Sampling",),
    "errors": ("PocketSeqError",),
    "examples": ("Example", "read_examples", "write_examples"),
    "manifest": ("Calibration", "Manifest", "Variant"),
    "model": ("PocketModel",),
    "results": ("Result", "Timing"),
    "template": ("Field", "Template"),
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "Bundle",
    "Calibration",
    "CheckpointCard",
    "Example",
    "Field",
    "Manifest",
    "PocketModel",
    "PocketSeqError",
    "Result",
    "Sampling",
    "Template",
    "Timing",
    "Variant",
    "open_bundle",
    "pack",
    "packaged_bundles",
    "read_examples",
    "write_examples",
    "write_manifest",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("pocketseq")
    elif name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})

"""Small sequence-to-sequence models on the device, with a calibrated confidence and a cloud to ask.

The names are imported when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pocketseq.lazily import lazily

if TYPE_CHECKING:
    from pocketseq.batching import BatchQueue
    from pocketseq.budget import Budget, Price
    from pocketseq.bundle import Bundle, open_bundle, pack, packaged_bundles, write_manifest
    from pocketseq.checkpoint import CheckpointCard
    from pocketseq.cloud import CloudEndpoint
    from pocketseq.decoding import Beams, Cancellation, Constraints, Sampling
    from pocketseq.endpoint import Completion, Endpoint, StreamingEndpoint
    from pocketseq.errors import PocketSeqError
    from pocketseq.examples import Example, read_examples, write_examples
    from pocketseq.hybrid import Draft, Final, Hybrid, Replace
    from pocketseq.manifest import Calibration, Manifest, Variant
    from pocketseq.model import PocketModel
    from pocketseq.options import Options
    from pocketseq.policy import Mode, Policy
    from pocketseq.results import Hypothesis, Result, Score, Timing, answers_before
    from pocketseq.suggestion import Attempt, Receipt, Suggestion
    from pocketseq.telemetry import Telemetry, TextRecording
    from pocketseq.template import Field, Template

__version__: str

_HOMES = {
    "batching": ("BatchQueue",),
    "budget": ("Budget", "Price"),
    "bundle": ("Bundle", "open_bundle", "pack", "packaged_bundles", "write_manifest"),
    "checkpoint": ("CheckpointCard",),
    "cloud": ("CloudEndpoint",),
    "decoding": ("Beams", "Cancellation", "Constraints", "Sampling"),
    "endpoint": ("Completion", "Endpoint", "StreamingEndpoint"),
    "errors": ("PocketSeqError",),
    "examples": ("Example", "read_examples", "write_examples"),
    "hybrid": ("Draft", "Final", "Hybrid", "Replace"),
    "manifest": ("Calibration", "Manifest", "Variant"),
    "model": ("PocketModel",),
    "options": ("Options",),
    "policy": ("Mode", "Policy"),
    "results": ("Hypothesis", "Result", "Score", "Timing", "answers_before"),
    "suggestion": ("Attempt", "Receipt", "Suggestion"),
    "telemetry": ("Telemetry", "TextRecording"),
    "template": ("Field", "Template"),
}
_public = lazily(__name__, _HOMES)

__all__ = [
    "Attempt",
    "BatchQueue",
    "Beams",
    "Budget",
    "Bundle",
    "Calibration",
    "Cancellation",
    "CheckpointCard",
    "CloudEndpoint",
    "Completion",
    "Constraints",
    "Draft",
    "Endpoint",
    "Example",
    "Field",
    "Final",
    "Hybrid",
    "Hypothesis",
    "Manifest",
    "Mode",
    "Options",
    "PocketModel",
    "PocketSeqError",
    "Policy",
    "Price",
    "Receipt",
    "Replace",
    "Result",
    "Sampling",
    "Score",
    "StreamingEndpoint",
    "Suggestion",
    "Telemetry",
    "Template",
    "TextRecording",
    "Timing",
    "Variant",
    "answers_before",
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

        globals()[name] = version("pocketseq")
        return globals()[name]
    return _public(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})

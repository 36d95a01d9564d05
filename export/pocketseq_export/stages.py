"""The stages ``export`` and ``verify`` of a run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from pocketseq.errors import RecipeError
from pocketseq.examples import read_examples
from pocketseq.files import write_json
from pocketseq.pipeline import Recipe, Stage
from pocketseq_export.exporters import RUNTIMES, wanted_variants
from pocketseq_export.selection import Limits, table_lines

NEEDS: Final = ("torch", "transformers")
"""Modules beyond the base install."""
_EXPORT: Final = f"{__name__}:ExportSettings"


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """The recipe's ``[export]``."""

    runtimes: tuple[str, ...] = ("onnx",)
    """Runtimes to write programs for: ``onnx``, ``tflite``, ``coreml``."""
    precisions: tuple[str, ...] = ("fp32", "int8")
    """Precisions to write them in: ``int8`` for each of the runtimes, ``onnx/int4`` for one."""

    def __post_init__(self) -> None:
        # Which precisions they can hold tells the package of each, which takes long to import.
        if not self.runtimes or not self.precisions or (unknown := sorted(set(self.runtimes) - set(RUNTIMES))):
            found = f"the runtimes {unknown}" if self.runtimes and self.precisions else "none"
            raise RecipeError(f"[export]: expected runtimes among {list(RUNTIMES)}, and a precision at least, found {found}")


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """The recipe's ``[verify]``."""

    rows: int = 200
    """Held-out rows to ask, taken from the head of the validation split."""
    tolerance: float = 0.01
    """Exact match that a variant may lose against the checkpoint, as a fraction."""
    allow_degraded: bool = False
    """Whether variants that lose more are kept all the same; the manifest then says so."""
    max_quality_drop: float | None = None
    """With any of these four, one variant of each runtime is kept: the preferred one that loses no more exact match than this,"""
    max_size_mb: float | None = None
    """whose files are no larger than this,"""
    max_latency_ms: float | None = None
    """and whose median answer takes no longer than this on the machine that verifies."""
    prefer: Literal["size", "speed"] | None = None
    """Whether the smallest or the fastest of those is kept; the smallest where only a limit is given."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise RecipeError(f"[verify]: rows: expected at least 1, found {self.rows}")

    @property
    def limits(self) -> Limits | None:
        """What one variant of each runtime is chosen by; None keeps all that hold."""
        if self.prefer is None and self.max_quality_drop is self.max_size_mb is self.max_latency_ms is None:
            return None
        return Limits(self.max_quality_drop, self.max_size_mb, self.max_latency_ms, self.prefer or "size")


def export_stage(recipe: Recipe, directory: Path) -> None:
    """``student`` → ``bundle``."""
    from pocketseq_export.packing import export_checkpoint

    settings = recipe.settings("export", ExportSettings)
    export_checkpoint(
        directory / "student",
        directory / "bundle",
        runtimes=settings.runtimes,
        precisions=settings.precisions,
        name=recipe.name,
    )


def verify_stage(recipe: Recipe, directory: Path) -> None:
    """``bundle``, ``student`` and the validation split → ``verification.json``, and what it found in the bundle's manifest."""
    from pocketseq.bundle import open_bundle
    from pocketseq_export.verification import verify_bundle

    settings = recipe.settings("verify", VerifySettings)
    with open_bundle(directory / "bundle") as bundle:
        there = {variant.label for variant in bundle.manifest.variants}
    asked = recipe.settings("export", ExportSettings)
    if there != set(wanted_variants(asked.runtimes, asked.precisions)):
        # An earlier verification with other settings has dropped a variant, which deserves a new trial.
        export_stage(recipe, directory)
    rows = list(islice(read_examples(directory / "data" / "validation.jsonl"), settings.rows))
    found = verify_bundle(
        directory / "bundle",
        directory / "student",
        rows,
        tolerance=settings.tolerance,
        allow_degraded=settings.allow_degraded,
        mend=True,
        limits=settings.limits,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if found.selection is not None:
        print("\n".join(table_lines(found.selection)), file=sys.stderr)
    write_json(directory / "verification.json", found.to_json())


EXPORT: Final = Stage(
    name="export",
    after=("train",),
    run=export_stage,
    sections={"export": _EXPORT},
    inputs=lambda recipe, _: recipe.name,
    outputs=("bundle",),
    needs=NEEDS,
    extra="export",
)
VERIFY: Final = Stage(
    name="verify",
    after=("corpus", "train", "export"),
    run=verify_stage,
    sections={"export": _EXPORT, "verify": f"{__name__}:VerifySettings"},
    outputs=("verification.json",),
    needs=NEEDS,
    extra="export",
)

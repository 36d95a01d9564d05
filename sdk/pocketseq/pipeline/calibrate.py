"""The stage ``calibrate``: a threshold of confidence for every variant of the run's bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pocketseq.bundle import open_bundle, write_manifest
from pocketseq.calibration import calibrate
from pocketseq.examples import read_examples
from pocketseq.files import write_json
from pocketseq.model import PocketModel
from pocketseq.pipeline.progress import Progress
from pocketseq.pipeline.recipe import Recipe
from pocketseq.pipeline.stage import Stage
from pocketseq.records import plain

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class CalibrateSettings:
    """The table ``[calibrate]``."""

    risk: float = 0.1
    """Largest share of wrong answers among those served locally."""
    delta: float = 0.05
    """Probability, over the calibration rows, that the promise does not hold."""
    rows: int | None = None
    """Rows of the calibration split to use, from its start; None for all."""


def run(recipe: Recipe, directory: Path) -> None:
    """Calibrate each variant on the calibration split; writes the manifest and ``calibration.json``.

    Raises:
        CalibrationError: too few rows, or a risk or delta outside 0 to 1.
        BundleError: the run has no usable bundle.
    """
    settings = recipe.settings("calibrate", CalibrateSettings)
    rows = list(read_examples(directory / "data" / "calibration.jsonl"))[: settings.rows]
    with open_bundle(directory / "bundle") as bundle:
        manifest = bundle.manifest
    found = []
    for variant in manifest.variants:
        progress = Progress(f"calibrate {variant.label}", len(rows))
        with PocketModel.load(directory / "bundle", runtime=variant.runtime, precision=variant.precision) as model:
            calibration = calibrate(model, rows, risk=settings.risk, delta=settings.delta, progress=progress)
        manifest = manifest.replacing(replace(variant, calibration=calibration))
        found.append({"runtime": variant.runtime, "precision": variant.precision, **plain(calibration)})
    write_manifest(directory / "bundle", manifest)
    write_json(directory / "calibration.json", {"format": FORMAT, "variants": found})


CALIBRATE: Final = Stage(
    name="calibrate", after=("corpus", "verify"), run=run, sections=("calibrate",), outputs=("calibration.json",)
)

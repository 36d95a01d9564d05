"""The stage ``calibrate``: a threshold of confidence for every variant of the run's bundle."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pocketseq.bundle import open_bundle, write_manifest
from pocketseq.calibration import Loss, Promise, calibrate
from pocketseq.errors import CalibrationError, InfeasibleRiskError, RecipeError, RuntimeUnavailableError
from pocketseq.examples import read_examples
from pocketseq.files import write_json
from pocketseq.manifest import Guarantee
from pocketseq.model import PocketModel
from pocketseq.pipeline.progress import Progress
from pocketseq.pipeline.recipe import Recipe
from pocketseq.pipeline.stage import Stage
from pocketseq.records import plain
from pocketseq.runtimes.opening import require_runtime

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class CalibrateSettings:
    """The table ``[calibrate]``."""

    risk: float = 0.1
    """Largest share of wrong answers among those served locally."""
    delta: float = 0.05
    """Probability, over the calibration rows, that the promise does not hold."""
    loss: str = "exact"
    """What counts as wrong, as ``pocketseq.calibration.Loss`` reads it; ``teacher`` is not for runs, whose rows have targets."""
    guarantee: Guarantee | None = None
    """By which test; None takes the one that fits the loss."""
    seed: int = 0
    """Divides the rows into those that fit, choose and test."""
    rows: int | None = None
    """Rows of the calibration split to use, from its start; None for all."""

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise RecipeError(f"[calibrate]: rows: expected at least 1, found {self.rows}")
        try:
            _ = self.promise
        except CalibrationError as error:
            raise RecipeError(f"[calibrate]: {error}") from None

    @property
    def promise(self) -> Promise:
        """What is to be promised."""
        return Promise(risk=self.risk, delta=self.delta, loss=Loss(self.loss), guarantee=self.guarantee)


def run(recipe: Recipe, directory: Path) -> None:
    """Calibrate each variant on the calibration split; writes the manifest and ``calibration.json``.

    A variant that cannot run here (Core ML on another system than a Mac) is left without, and loses an earlier one: a promise is
    made on the very artifact, and by these settings.
    Where the risk cannot be kept the calibration serves nothing, and the run goes on: with a cloud behind it, it is still of use.

    Raises:
        CalibrationError: too few rows.
        RecipeError: rows below 1, or a promise that cannot be made, such as a risk outside 0 to 1.
        BundleError: the run has no usable bundle.
    """
    settings = recipe.settings("calibrate", CalibrateSettings)
    rows = list(read_examples(directory / "data" / "calibration.jsonl"))[: settings.rows]
    with open_bundle(directory / "bundle") as bundle:
        manifest = bundle.manifest
    found = []
    for variant in manifest.variants:
        try:
            require_runtime(variant)
        except RuntimeUnavailableError as problem:
            print(f"calibrate {variant.label}: left without a calibration: {problem}", file=sys.stderr)
            manifest = manifest.replacing(replace(variant, calibration=None))  # an old one promises what other settings asked for
            continue
        progress = Progress(f"calibrate {variant.label}", len(rows))
        with PocketModel.load(directory / "bundle", runtime=variant.runtime, precision=variant.precision) as model:
            try:
                calibration = calibrate(model, rows, settings.promise, seed=settings.seed, progress=progress).calibration
            except InfeasibleRiskError as refused:
                print(f"calibrate {variant.label}: {refused}", file=sys.stderr)
                calibration = refused.calibrated.calibration
        manifest = manifest.replacing(replace(variant, calibration=calibration))
        found.append({"runtime": variant.runtime, "precision": variant.precision, **plain(calibration)})
    write_manifest(directory / "bundle", manifest)
    write_json(directory / "calibration.json", {"format": FORMAT, "variants": found})


CALIBRATE: Final = Stage(
    name="calibrate",
    after=("corpus", "verify"),
    run=run,
    sections={"calibrate": f"{__name__}:CalibrateSettings"},
    outputs=("calibration.json",),
)

"""Deferral on a finished run: its bundle answers, its splits choose and test, its teacher is the cloud."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from pocketseq import PocketModel
from pocketseq.calibration import Judged, judge, read_answers
from pocketseq.errors import DataError, InputError
from pocketseq.examples import Example, read_examples
from pocketseq.files import digest
from pocketseq.pipeline import Recipe
from pocketseq.pipeline.calibrate import CalibrateSettings
from pocketseq.pipeline.progress import Progress
from pocketseq_bench.deferral.study import deferral

CHOOSING: Final = ("validation", "calibration")
"""Splits that fit and choose, as far as there are any: no model learnt from them. The validation split did stop its training."""
TESTING: Final = "test"
"""The split that measures."""
LEARNT_FROM: Final = "train"
"""The split that models learnt from: rows of it may help to fit what is learnt, and no more."""


def measure_run(
    run: Path,
    *,
    data: Path | None = None,
    rows: int | None = None,
    seen: int = 0,
    runtime: str | None = None,
    precision: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure one run, as JSON values.

    Args:
        run: Its directory, with ``recipe.toml``, ``bundle``, the splits under ``data``, and a ``teacher`` if it has a student.
        data: Another folder of splits, of the same task.
        rows: Use the first rows of each split only; None for all.
        seen: So many rows of the training split help to fit what is learnt.
        runtime: Of the variant that answers; None takes the bundle's first.
        precision: See ``runtime``.
        seed: Of the bootstraps and of the resamplings.

    Raises:
        DataError: a split is missing, or the teacher cannot answer.
        InputError: rows below 1, or rows of the training split below 0.
        RecipeError: no recipe in the directory.
        BundleError: no usable bundle in it.
    """
    for name, count, least in (("rows", rows, 1), ("seen", seen, 0)):
        if count is not None and count < least:
            raise InputError(f"{name}: expected a whole number from {least}, found {count}")
    recipe = Recipe.read(run / "recipe.toml")
    promise = recipe.settings("calibrate", CalibrateSettings).promise
    folder = data or run / "data"
    parts: dict[str, list[Judged]] = {}
    examples: list[Example] = []
    limits = {**{split: rows for split in CHOOSING if (folder / f"{split}.jsonl").is_file()}, TESTING: rows}
    if seen:
        limits[LEARNT_FROM] = seen
    with PocketModel.load(run / "bundle", runtime=runtime, precision=precision) as model:
        for split, limit in limits.items():
            split_rows = list(islice(read_examples(folder / f"{split}.jsonl"), limit))
            cloud = _teacher_answers(run, folder / f"{split}.jsonl", split_rows) if (run / "student").is_dir() else None
            progress = Progress(f"deferral {recipe.name} {split}", len(split_rows))
            parts[split] = judge(model, split_rows, promise.loss, cloud=cloud, progress=progress)
            examples += split_rows
        manifest, variant = model.manifest, model.variant
    fingerprint = digest(sorted([row.id, row.target] for row in examples))
    choosing = [answer for split in CHOOSING for answer in parts.get(split, ())]
    testing, learnt_from = parts[TESTING], parts.get(LEARNT_FROM, [])
    clouds = {"teacher": (choosing, testing, learnt_from)} if (run / "student").is_dir() else {}
    clouds["always right"] = (_always_right(choosing), _always_right(testing), _always_right(learnt_from))
    return {
        "name": recipe.name,
        "task": recipe.task,
        "variant": variant.label,
        "hash": variant.hash,
        "data": fingerprint,
        "loss": promise.loss.name,
        "seed": seed,
        "parameters": manifest.provenance.get("parameters"),
        "training": manifest.provenance.get("training"),
        "latency_ms": float(np.median([answer.latency_ms for answer in testing])),
        "clouds": {
            name: deferral(chose, tested, seen=learnt, promise=promise, variant=variant.hash, data=fingerprint, seed=seed)
            for name, (chose, tested, learnt) in clouds.items()
        },
    }


def _always_right(answers: Sequence[Judged]) -> list[Judged]:
    return [replace(answer, cloud_loss=0.0) for answer in answers]


def _teacher_answers(run: Path, file: Path, rows: Sequence[Example]) -> dict[str, str]:
    """What the run's teacher answers to rows of a file, by ``pocketseq label`` in a process of its own: this room has no torch."""
    output = run / "deferral" / f"{digest(sorted([row.id, row.target] for row in rows))}.jsonl"
    output.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pocketseq", "label", str(run / "teacher"), str(file), "-o", str(output)]
    done = subprocess.run(  # noqa: S603
        [*command, "--rows", str(len(rows))], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    if done.returncode:
        raise DataError(
            f"{run / 'teacher'}: expected a teacher that answers, found that labelling ended with exit code {done.returncode}"
        )
    return read_answers(output, rows)

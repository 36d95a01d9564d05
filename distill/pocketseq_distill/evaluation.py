"""Evaluation: what a checkpoint answers to held-out rows, how good that is, and how long one answer takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from pocketseq.errors import DataError, RecipeError
from pocketseq.examples import Example
from pocketseq.metrics import RowMetrics, evaluate_rows
from pocketseq.records import plain
from pocketseq_distill.checkpoints import weights_size_bytes

if TYPE_CHECKING:
    from pocketseq_distill.generation import TeacherModel

_WARM_UP_ROWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """How much to measure."""

    rows: int | None = None
    """Held-out rows to answer, from the first; None for all."""
    latency_rows: int = 0
    """Rows answered one by one on one thread for the latency; 0 measures none."""
    batch_size: int = 64
    """Rows decoded together where time is not measured."""

    def __post_init__(self) -> None:
        for name, bound in {"rows": 1, "latency_rows": 0, "batch_size": 1}.items():
            if (found := getattr(self, name)) is not None and found < bound:
                raise RecipeError(f"[evaluate]: expected {name} of {bound} or more, found {found}")


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one answer, tokenizer included, at batch 1 on one thread."""

    p50: float
    """Median in milliseconds."""
    p95: float
    """Of twenty answers one takes longer; in milliseconds."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one checkpoint came to."""

    name: str
    """Name of the checkpoint in reports, such as ``teacher``."""
    parameters: int
    """Weights, tied ones counted once."""
    size_bytes: int
    """Size of the weights on disk."""
    metrics: RowMetrics
    """Quality over the rows."""
    latency_ms: Latency | None
    """Time of one answer; None where it was not measured."""
    predictions: tuple[dict[str, str], ...]
    """Id and answer of every row."""

    def to_json(self) -> dict[str, Any]:
        """The evaluation as plain JSON values, metrics beside the rest."""
        values: dict[str, Any] = plain(self)
        metrics = values.pop("metrics")
        predictions = values.pop("predictions")
        return {**values, **metrics, "predictions": predictions}


def evaluate_checkpoint(path: Path, examples: Sequence[Example], settings: EvaluationSettings, *, name: str) -> Evaluation:
    """Answer held-out rows with a checkpoint, greedily, and measure.

    Args:
        path: The checkpoint.
        examples: The rows with their references.
        settings: How much to measure.
        name: Name in reports.

    Raises:
        CheckpointError: no usable checkpoint.
        DataError: no rows.
    """
    from pocketseq_distill.generation import TeacherModel

    examples = examples[: settings.rows]
    if not examples:
        raise DataError(f"expected held-out rows to evaluate {name} on, found none")
    model = TeacherModel.load(path)
    answers: list[str] = []
    for begin in tqdm(range(0, len(examples), settings.batch_size * 4), desc=f"evaluate {name}", unit="chunk", dynamic_ncols=True):
        chunk = examples[begin : begin + settings.batch_size * 4]
        found = model.answer([example.fields for example in chunk], batch_size=settings.batch_size)
        answers += [answer.text for answer in found]
    timed = examples[: settings.latency_rows]
    return Evaluation(
        name=name,
        parameters=sum(parameter.numel() for parameter in model.model.parameters()),
        size_bytes=weights_size_bytes(path),
        metrics=evaluate_rows(examples, answers, primary=model.card.template.primary),
        latency_ms=measure_latency(model, timed) if timed else None,
        predictions=tuple({"id": example.id, "text": answer} for example, answer in zip(examples, answers, strict=True)),
    )


def measure_latency(model: TeacherModel, examples: Sequence[Example]) -> Latency:
    """Time answers one by one on one thread, after a few that are not counted.

    Args:
        model: What answers.
        examples: The rows, at least one.
    """
    with one_thread():
        for example in examples[:_WARM_UP_ROWS]:
            model.answer([example.fields])
        times_ms = []
        for example in examples:
            begin = time.perf_counter()
            model.answer([example.fields])
            times_ms.append(1000 * (time.perf_counter() - begin))
    p50, p95 = np.percentile(times_ms, [50, 95])
    return Latency(p50=round(float(p50), 3), p95=round(float(p95), 3))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread as long as the block lasts."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

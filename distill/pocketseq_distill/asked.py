"""Teachers through text, measured: they are judged by what they answer, as what students are cut from is another model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.metrics import RowMetrics, evaluate_rows
from pocketseq.records import plain
from pocketseq.template import Template
from pocketseq_distill.evaluation import EvaluationSettings, Latency, one_thread
from pocketseq_distill.labelling.labels import read_labels
from pocketseq_distill.labelling.opening import open_teacher
from pocketseq_distill.labelling.teacher import Asking, Question, Teacher
from pocketseq_distill.teacher import TeacherSettings

_SIZES: Final = "a teacher through text does not tell how large it is"


@dataclass(frozen=True, slots=True)
class AskedEvaluation:
    """What a teacher came to that answers through text."""

    runtime: str
    """What answers: ``causal``, ``function`` or ``endpoint``."""
    metrics: RowMetrics | None
    """Quality over the rows; None where there are no answers to them."""
    latency_ms: Latency | None
    """Time of one answer; None where it was not measured."""
    predictions: tuple[dict[str, str], ...]
    """Id and answer of every row; no text where the teacher gave none."""
    note: str
    """Why there are no sizes, how many rows had no answer, and where the answers come from."""

    def to_json(self) -> dict[str, Any]:
        """The evaluation in the form of ``Evaluation.to_json``, null where a number is not known."""
        metrics = plain(self.metrics) if self.metrics else {one.name: None for one in fields(RowMetrics)} | {"n": 0, "by_kind": {}}
        return {
            "name": "teacher",
            "runtime": self.runtime,
            "precision": "through text",
            "parameters": None,
            "size_bytes": None,
            **metrics,
            "latency_ms": asdict(self.latency_ms) if self.latency_ms else None,
            "note": self.note,
            "predictions": self.predictions,
        }


def evaluate_through_text(
    settings: TeacherSettings,
    examples: Sequence[Example],
    how: EvaluationSettings,
    *,
    template: Template,
    labels: Path,
    asking: Asking,
) -> AskedEvaluation:
    """Measure the teacher through text of a run on held-out rows.

    One that computes here is asked, for one answer to each row. An endpoint's answers cost money: it is measured by labels of the
    rows that it has given already, and where there are none, not at all.

    Args:
        settings: The table ``[teacher]``.
        examples: The rows with their references.
        how: How much to measure.
        template: How inputs are read.
        labels: What ``pocketseq label`` wrote about the rows, if it did; read for an endpoint alone.
        asking: How it was asked for labels: as long answers, as precisely computed, are what it is judged by.

    Raises:
        DataError: no rows, or damaged labels.
        TeacherError: it cannot answer at all.
    """
    examples = examples[: how.rows]
    if not examples:
        raise DataError("expected held-out rows to evaluate teacher on, found none")
    if settings.endpoint is not None:
        return _by_labels(labels, examples, primary=template.primary)
    teacher = open_teacher(settings, template).teacher
    texts: list[str | None] = []
    asking = Asking(batch_size=how.batch_size, max_new_tokens=asking.max_new_tokens, bf16=asking.bf16)
    size = how.batch_size * 4
    for begin in tqdm(range(0, len(examples), size), desc="evaluate teacher", unit="chunk", dynamic_ncols=True):
        replies = teacher.ask([Question(example.fields) for example in examples[begin : begin + size]], asking)
        texts += [reply.candidates[0].text if reply.candidates else None for reply in replies]
    runtime = "causal" if settings.causal is not None else "function"
    return _judged(
        texts, examples, runtime, primary=template.primary, latency=_latency(teacher, examples[: how.latency_rows], asking)
    )


def _latency(teacher: Teacher, examples: Sequence[Example], asking: Asking) -> Latency | None:
    """Time of answers one by one, after the first has opened what there is to open."""
    times_ms: list[float] = []
    with one_thread():
        for example in examples:
            begun = time.perf_counter()
            teacher.ask([Question(example.fields)], replace(asking, batch_size=1))
            times_ms.append(1000 * (time.perf_counter() - begun))
    if not times_ms:
        return None
    p50, p95 = np.percentile(times_ms, [50, 95])
    return Latency(p50=round(float(p50), 3), p95=round(float(p95), 3))


def _by_labels(path: Path, examples: Sequence[Example], *, primary: str) -> AskedEvaluation:
    found = read_labels(path, examples) if path.is_file() else {}
    labelled = [example for example in examples if example.id in found]
    if not labelled:
        note = f"{_SIZES}; asking an endpoint about held-out rows costs money: label them into labels/{path.name} to have it judged"
        return AskedEvaluation("endpoint", None, None, (), note)
    origin = f"judged by its labels of {len(labelled)} of {len(examples)} rows"
    labels = [found[example.id] for example in labelled]
    texts = [None if label.finish_reason == "refused" else label.text for label in labels]  # an empty answer may be the right one
    return _judged(texts, labelled, "endpoint", primary=primary, origin=origin)


def _judged(
    texts: Sequence[str | None],
    examples: Sequence[Example],
    runtime: str,
    *,
    primary: str,
    latency: Latency | None = None,
    origin: str = "",
) -> AskedEvaluation:
    answers = [text or "" for text in texts]
    silent = sum(text is None for text in texts)
    without = f"{silent} rows without an answer count as wrong" if silent else ""
    return AskedEvaluation(
        runtime=runtime,
        metrics=evaluate_rows(examples, answers, primary=primary),
        latency_ms=latency,
        predictions=tuple({"id": example.id, "text": answer} for example, answer in zip(examples, answers, strict=True)),
        note="; ".join(part for part in (_SIZES, origin, without) if part),
    )

"""Evaluation of a checkpoint on held-out rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pocketseq.errors import DataError, RecipeError
from pocketseq_distill.evaluation import EvaluationSettings, evaluate_checkpoint
from pocketseq_distill.generation import TeacherModel

from .models import repair_examples

EXAMPLES = repair_examples(12)


def test_an_evaluation_holds_size_quality_and_predictions(teacher_path: Path) -> None:
    """In the form that reports read, and as JSON."""
    evaluation = evaluate_checkpoint(teacher_path, EXAMPLES, EvaluationSettings(rows=10), name="teacher").to_json()
    assert json.loads(json.dumps(evaluation)) == evaluation
    assert evaluation["name"] == "teacher"
    assert evaluation["n"] == 10
    assert evaluation["latency_ms"] is None
    assert {"exact_match", "edit_similarity", "chrf", "parses", "repaired", "false_alarms", "by_kind"} <= set(evaluation)
    model = TeacherModel.load(teacher_path)
    assert evaluation["parameters"] == sum(p.numel() for p in model.model.parameters())
    assert evaluation["size_bytes"] == (teacher_path / "model.safetensors").stat().st_size
    answers = [answer.text for answer in model.answer([example.fields for example in EXAMPLES[:10]])]
    assert [prediction["text"] for prediction in evaluation["predictions"]] == answers
    right = sum(answer == example.target for answer, example in zip(answers, EXAMPLES, strict=False))
    assert evaluation["exact_match"] == right / 10


def test_latency_is_measured_on_request_and_leaves_the_threads_alone(teacher_path: Path) -> None:
    """Median and 95th percentile of single answers."""
    threads = torch.get_num_threads()
    evaluation = evaluate_checkpoint(teacher_path, EXAMPLES, EvaluationSettings(latency_rows=4), name="teacher")
    assert evaluation.latency_ms is not None
    assert 0 < evaluation.latency_ms.p50 <= evaluation.latency_ms.p95
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"rows": -3}, {"latency_rows": -1}, {"batch_size": 0}])
def test_numbers_of_rows_that_are_none_are_refused(wrong: dict[str, int]) -> None:
    """Not taken for all rows but the last, as a slice would."""
    with pytest.raises(RecipeError, match=rf"\[evaluate\]: expected {next(iter(wrong))} of [01] or more, found"):
        EvaluationSettings(**wrong)


def test_no_rows_are_an_error(teacher_path: Path) -> None:
    """A share of nothing is not a number."""
    with pytest.raises(DataError, match="expected held-out rows to evaluate teacher on, found none"):
        evaluate_checkpoint(teacher_path, [], EvaluationSettings(), name="teacher")

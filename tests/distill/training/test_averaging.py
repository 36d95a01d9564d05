"""The moving average of the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.distill.models import copy_rows, make_t5
from transformers import PreTrainedModel

from pocketseq.errors import RecipeError
from pocketseq_distill.training.averaging import WeightAverage
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan

PLAN = TrainingPlan(steps=12, batch_size=16, learning_rate=3e-3, warmup_steps=2, schedule="constant", seed=7, average=0.9)
ROWS = copy_rows(64)


def trained(folder: Path, *plans: TrainingPlan) -> PreTrainedModel:
    for plan in plans:
        model = make_t5(dropout=0.1)
        train(model, ROWS, plan, state_dir=folder)
    return model


def same(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    return all(torch.equal(left, right) for left, right in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_average_by_hand() -> None:
    """After updates 1 and 2 the decays are 2/11 and 3/12, both below the one asked for."""
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    average = WeightAverage(layer, decay=0.99)
    for step, value in ((1, 3.0), (2, 5.0)):
        layer.weight.data.fill_(value)
        average.update(step)
    first = 2 / 11 * 1 + 9 / 11 * 3
    with average.applied():
        assert layer.weight.item() == pytest.approx(0.25 * first + 0.75 * 5)
    assert layer.weight.item() == 5.0


def test_the_average_is_what_is_kept(tmp_path: Path) -> None:
    """The finished model is the average, while the checkpoint resumes from the weights themselves."""
    averaged = trained(tmp_path / "averaged", PLAN)
    plain = trained(tmp_path / "plain", replace(PLAN, average=None))
    assert not same(averaged, plain)
    resumes = type(plain).from_pretrained(tmp_path / "averaged/checkpoint-12")
    assert same(resumes, plain)


def test_an_interrupted_average_goes_on_to_the_bit(tmp_path: Path) -> None:
    """And a finished training, called again, gives the average without training."""
    straight = trained(tmp_path / "straight", PLAN)
    assert same(trained(tmp_path / "interrupted", replace(PLAN, steps=5), PLAN), straight)
    assert same(trained(tmp_path / "interrupted", PLAN), straight)


def test_the_average_is_what_is_validated(tmp_path: Path) -> None:
    """The best average is the result; it is what the validation saw then."""
    seen: list[dict[str, torch.Tensor]] = []

    def validation(model: PreTrainedModel) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"exact_match": 0.9 if len(seen) == 2 else 0.1}

    plan = replace(PLAN, validate_every=4)
    for _ in range(2):  # the second call finds the training finished
        model = make_t5(dropout=0.1)
        train(model, ROWS, plan, state_dir=tmp_path, validation=validation)
        assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())
    assert len(seen) == 3


def test_a_decay_lies_between_zero_and_one() -> None:
    """Others are refused."""
    with pytest.raises(RecipeError, match="expected average between 0 and 1, found 1"):
        replace(PLAN, average=1.0)

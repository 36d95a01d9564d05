"""The trainer's gradients, schedule, budget and errors."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.distill.models import MakeModel, copy_rows, make_t5
from transformers import PreTrainedModel, Seq2SeqTrainingArguments, TrainerCallback

from pocketseq.errors import CheckpointError, RecipeError, TrainingError
from pocketseq_distill.losses.matching import LayerMap
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.students.layers import make_student
from pocketseq_distill.training.course import train
from pocketseq_distill.training.graphs import RecordedGradients
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.trainer import DistillationTrainer

PLAN = TrainingPlan(steps=1, batch_size=16, warmup_steps=0, schedule="constant", clip_norm=0.0, bf16=False)


class Gradients(TrainerCallback):
    """Keeps the gradients of the first update."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, _args: Any, _state: Any, _control: Any, *, model: PreTrainedModel, **_: Any) -> None:
        if not self.found:
            self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def gradients(
    model: PreTrainedModel, rows: TokenRows, plan: TrainingPlan, folder: Path, teacher: PreTrainedModel | None = None
) -> dict[str, torch.Tensor]:
    trainer = DistillationTrainer(model, rows, plan, state_dir=folder, teacher=teacher)
    kept = Gradients()
    trainer.add_callback(kept)
    trainer.train()
    return kept.found


@pytest.mark.parametrize("divided", [{"batch_size": 4, "accumulation": 4}, {"tokens_at_once": 28}], ids=["accumulated", "in parts"])
@pytest.mark.parametrize("divergence", [0.0, 1.0])
def test_smaller_batches_give_the_gradients_of_one(
    make_model: MakeModel, tmp_path: Path, divergence: float, divided: dict[str, int]
) -> None:
    """Targets of unlike length in every batch: only a sum over labels divided once by all of them comes out the same."""
    rows = TokenRows.of([[3 + i % 20] * 6 for i in range(16)], [[*range(3, 4 + i % 7), 1] for i in range(16)])
    plan = replace(PLAN, divergence=divergence)
    teacher = make_model(seed=1)
    whole = gradients(make_model(), rows, plan, tmp_path / "whole", teacher)
    parts = gradients(make_model(), rows, replace(plan, **divided), tmp_path / "parts", teacher)
    assert whole.keys() == parts.keys()
    assert any(gradient.abs().max() > 1e-3 for gradient in whole.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6)


def test_gradients_are_those_of_the_mean_over_labels(tmp_path: Path) -> None:
    """One batch without a teacher: what the model's own loss gives."""
    rows = copy_rows(16)
    found = gradients(make_t5(), rows, PLAN, tmp_path)
    model = make_t5()
    trainer = DistillationTrainer(model, rows, PLAN, state_dir=tmp_path / "other")
    (batch,) = trainer.get_train_dataloader()
    model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_model_learns_without_a_teacher(tmp_path: Path) -> None:
    """Plain cross-entropy from scratch: the loss falls."""
    trained = train(make_t5(), copy_rows(256), replace(PLAN, steps=60, learning_rate=3e-3), state_dir=tmp_path)
    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    assert trained.steps == 60
    assert losses[-1] < 0.8 * losses[0]


def test_the_teacher_draws_the_student_to_its_distribution(tmp_path: Path) -> None:
    """With KL alone the student comes nearer to what its teacher says, whatever the labels."""
    teacher = make_t5(layers=2, seed=3)
    student = make_student(teacher, encoder_layers=(0,), decoder_layers=(1,))
    rows = copy_rows(128)
    plan = replace(PLAN, steps=40, learning_rate=3e-3, cross_entropy=0.0, divergence=1.0, bf16=True)
    trained = train(student, rows, plan, state_dir=tmp_path, teacher=teacher)
    losses = [entry["loss"] for entry in trained.history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]


def test_a_frozen_encoder_stands_still_and_then_moves(make_model: MakeModel, tmp_path: Path) -> None:
    """For the first updates encoder and embeddings get no gradient; afterwards they do."""
    rows = copy_rows(64)
    teacher = make_model(decoder_layers=2)
    start = {name: p.clone() for name, p in teacher.get_encoder().named_parameters()}

    def moved(frozen: int, folder: Path) -> bool:
        student = make_student(teacher, encoder_layers=(0, 1), decoder_layers=(0,))
        plan = replace(PLAN, steps=4, divergence=1.0, frozen_encoder_steps=frozen)
        train(student, rows, plan, state_dir=folder, teacher=teacher)
        decoder = student.get_decoder()
        layers = decoder.block if hasattr(decoder, "block") else decoder.layers
        original = teacher.get_decoder()
        theirs = original.block if hasattr(original, "block") else original.layers
        assert not torch.equal(next(layers[0].parameters()), next(theirs[0].parameters()))
        return any(not torch.equal(p, start[name]) for name, p in student.get_encoder().named_parameters())

    assert not moved(4, tmp_path / "frozen")
    assert moved(2, tmp_path / "thawed")


def test_a_shared_encoder_gives_the_gradients_of_two(tmp_path: Path) -> None:
    """Encoding once for student and teacher, where both have the same frozen encoder, changes nothing but the time."""
    teacher = make_t5(decoder_layers=2)
    rows = copy_rows(16)
    plan = replace(PLAN, divergence=1.0)

    def decoder_gradients(frozen: int, folder: Path) -> dict[str, torch.Tensor]:
        student = make_student(teacher, encoder_layers=(0, 1), decoder_layers=(0,))
        found = gradients(student, rows, replace(plan, frozen_encoder_steps=frozen), folder, teacher)
        return {name: gradient for name, gradient in found.items() if name.startswith("decoder.block")}

    apart, shared = decoder_gradients(0, tmp_path / "apart"), decoder_gradients(1, tmp_path / "shared")
    assert apart.keys() == shared.keys()
    for name, gradient in apart.items():
        torch.testing.assert_close(shared[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    """The error gives what was seen, the step, its rate and what to change; nothing trains on silently."""
    model = make_t5()
    with torch.no_grad():
        model.decoder.final_layer_norm.weight.fill_(float("nan"))
    advice = r"expected a finite loss, found nan of labels and divergence in step 1 at a learning rate of 0\.001; "
    advice += r"try a lower learning_rate than 0\.001 or more warmup_steps than 0; the checkpoints"
    with pytest.raises(TrainingError, match=advice):
        train(model, copy_rows(16), PLAN, state_dir=tmp_path)


class Replays:
    """Losses of updates as a graph would give them: there when they are looked at, and no sooner."""

    def __init__(self, model: PreTrainedModel, losses: list[float]) -> None:
        self._model = model
        self.losses = losses

    def __call__(self, _inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        for parameter in self._model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return torch.tensor(self.losses.pop(0))


@pytest.mark.parametrize(("losses", "left"), [([1.0, float("nan"), 1.0, 1.0], 1), ([1.0, 1.0, float("nan")], 0)])
def test_a_replayed_loss_that_is_not_finite_stops_the_training(tmp_path: Path, losses: list[float], left: int) -> None:
    """One update later at most, by its own step, and before anything is saved of it."""
    model = make_t5()
    trainer = DistillationTrainer(model, copy_rows(64), replace(PLAN, steps=len(losses)), state_dir=tmp_path)
    broken = [math.isnan(loss) for loss in losses].index(True)
    replays = Replays(model, losses)
    trainer._recorded = cast("RecordedGradients", replays)
    with pytest.raises(TrainingError, match=f"found nan of labels and divergence in step {broken + 1} at"):
        trainer.train()
    assert len(replays.losses) == left
    assert not list(tmp_path.rglob("model.safetensors"))


def test_no_rows_are_an_error(tmp_path: Path) -> None:
    """The error points to the filters."""
    with pytest.raises(TrainingError, match="expected rows to train on, found none"):
        train(make_t5(), TokenRows.of([], []), PLAN, state_dir=tmp_path)


def test_teacher_and_student_must_share_a_vocabulary(tmp_path: Path) -> None:
    """Logits of different vocabularies cannot be compared; the error says what to do."""
    with pytest.raises(CheckpointError, match="expected teacher and student with one vocabulary, found 50 and 48 tokens"):
        train(make_t5(), copy_rows(16), PLAN, state_dir=tmp_path, teacher=make_t5(vocab=50))


def test_the_budget_ends_a_training(tmp_path: Path) -> None:
    """With no time at all there is one update, and a checkpoint of it."""
    trained = train(make_t5(), copy_rows(64), replace(PLAN, steps=10_000, max_minutes=0.0), state_dir=tmp_path)
    assert trained.steps == 1
    assert (tmp_path / "checkpoint-1" / "model.safetensors").is_file()


def test_training_stops_when_validation_stalls_and_keeps_the_best(tmp_path: Path) -> None:
    """Patience counts validations; the model ends as it was at its best."""
    seen: list[dict[str, torch.Tensor]] = []

    def validation(model: PreTrainedModel) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"exact_match": 0.5 if len(seen) == 2 else 0.1}

    model = make_t5()
    plan = replace(PLAN, steps=1000, validate_every=3, patience=2)
    trained = train(model, copy_rows(256), plan, state_dir=tmp_path, validation=validation)
    assert trained.steps < 20
    assert trained.best == 0.5
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[1][name]), name


def test_the_validation_that_ends_patience_is_heeded(tmp_path: Path) -> None:
    """A training goes on where it is better than all before, however long the last better one is ago."""
    scores = [0.1, 0.2, 0.2, 0.3, 0.3, 0.3]
    found = iter([*scores, *([0.0] * 100)])
    plan = replace(PLAN, steps=1000, validate_every=3, patience=2)
    trained = train(make_t5(), copy_rows(256), plan, state_dir=tmp_path, validation=lambda _: {"exact_match": next(found)})
    assert (trained.steps, trained.best) == (18, 0.3)


def test_a_divergence_needs_a_teacher(tmp_path: Path) -> None:
    """Left out without a word, the loss would be another, or none."""
    with pytest.raises(RecipeError, match="expected a teacher beside divergence, found none"):
        train(make_t5(), copy_rows(16), replace(PLAN, divergence=1.0), state_dir=tmp_path)


def test_what_is_added_after_a_training_starts_no_other() -> None:
    """Rounded updates and a longer way go on from what there is; another loss does not."""
    plan = replace(PLAN, validate_every=2)
    assert plan.course == replace(plan, steps=2 * plan.steps, int8_steps=20).course
    assert plan.course != replace(plan, label_smoothing=0.1).course


def test_a_trained_model_computes_as_one_that_is_read_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the precision that it learnt in."""
    for module in ("precision", "training.arguments"):
        monkeypatch.setattr(f"pocketseq_distill.{module}.has_bf16", lambda _: True)
    model = make_t5()
    train(model, copy_rows(16), replace(PLAN, steps=2, bf16=True), state_dir=tmp_path / "state")
    model.eval().save_pretrained(tmp_path / "model")
    ids = torch.arange(3, 9)[None]
    read = type(model).from_pretrained(tmp_path / "model").eval()
    assert torch.equal(model(input_ids=ids, decoder_input_ids=ids).logits, read(input_ids=ids, decoder_input_ids=ids).logits)


def test_the_saved_configuration_still_generates_with_a_cache(tmp_path: Path) -> None:
    """Training turns the cache off for itself, not for those who use the model later."""
    model = make_t5()
    train(model, copy_rows(16), PLAN, state_dir=tmp_path)
    assert model.config.use_cache


def test_parts_of_a_batch_are_for_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes whose batches have unlike numbers of parts would wait for one another for ever."""
    monkeypatch.setattr(Seq2SeqTrainingArguments, "world_size", property(lambda _: 2))
    with pytest.raises(RecipeError, match="expected tokens_at_once in one process alone, found 2 processes; leave it out"):
        DistillationTrainer(make_t5(), copy_rows(4), replace(PLAN, tokens_at_once=100), state_dir=tmp_path)


@pytest.mark.parametrize(
    ("more", "can"),
    [
        ({}, True),
        ({"divergence": 1.0, "doubt": 0.5, "label_smoothing": 0.1}, True),
        ({"divergence": 1.0, "divergence_kind": "jensen_shannon"}, False),
        ({"divergence": 1.0, "on_policy": 0.3}, False),
        ({"spans": 1.0}, False),
        ({"frozen_encoder_steps": 2}, False),
        ({"divergence": 1.0, "hidden": 1.0}, False),
    ],
)
def test_updates_that_look_at_values_are_not_recorded(tmp_path: Path, more: dict[str, Any], can: bool) -> None:
    """Of the others the shapes are those of the batch alone, and what is computed so is the same loss."""
    plan, model, layers = replace(PLAN, **more), make_t5(), LayerMap((0, 1), (0, 1))
    teacher = make_t5(seed=1) if plan.divergence else None
    trainer = DistillationTrainer(model, copy_rows(16), plan, state_dir=tmp_path, teacher=teacher, layers=layers)
    assert trainer.lesson.can_be_fixed is can
    if can:
        (batch,) = trainer.get_train_dataloader()
        one, other = (trainer.lesson.loss(model, dict(batch), step=0, rate=0.0, items=None, fixed=fixed) for fixed in (False, True))
        torch.testing.assert_close(one, other)

"""Updates in which the student learns from its teacher about its own answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distill.losses.sums import divergence
from tests.distill.models import OPINIONS, MakeModel, copy_rows, make_t5
from tests.distill.training.test_trainer import PLAN, gradients

from pocketseq.errors import RecipeError
from pocketseq_distill.losses import lesson
from pocketseq_distill.losses.on_policy import is_on_policy, own_answers
from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.students.layers import make_student
from pocketseq_distill.training.batches import Collate
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan

ROWS = copy_rows(16)


def test_a_share_of_updates_is_the_students_own() -> None:
    """Chosen by seed and update alone; none at zero, all at one."""
    assert not any(is_on_policy(0.0, seed=0, step=step) for step in range(100))
    assert all(is_on_policy(1.0, seed=0, step=step) for step in range(100))
    chosen = [is_on_policy(0.3, seed=1, step=step) for step in range(1000)]
    assert 250 < sum(chosen) < 350
    assert chosen == [is_on_policy(0.3, seed=1, step=step) for step in range(1000)]


def test_answers_are_drawn_from_the_student(make_model: MakeModel) -> None:
    """Labels are the decoder's inputs one step on; nothing behind the end counts; the model is left in training."""
    student = make_model().train()
    collate = Collate(pad_id=0, shift=student.prepare_decoder_input_ids_from_labels)
    collate = replace(collate, multiple=8)  # as for an accelerator, padded beyond the longest answer
    batch = collate(ROWS.take(range(16)))
    torch.manual_seed(0)
    own = own_answers(student, batch)
    assert student.training
    assert own["input_ids"] is batch["input_ids"]
    assert own["labels"].shape == own["decoder_input_ids"].shape
    longest = int((batch["labels"] != IGNORED).sum(1).max())
    assert own["labels"].size(1) <= longest < batch["labels"].size(1)
    assert (own["decoder_input_ids"][:, 0] == student.config.decoder_start_token_id).all()
    for labels, prefix in zip(own["labels"], own["decoder_input_ids"], strict=True):
        counted = labels[labels != IGNORED]
        assert torch.equal(counted[:-1], prefix[1 : len(counted)])
        assert (counted[:-1] != 1).all()
        assert len(counted) == len(labels) or counted[-1] == 1
    torch.manual_seed(0)
    assert torch.equal(own_answers(student, batch)["labels"], own["labels"])


def test_answers_are_drawn_at_temperature_1_whatever_the_checkpoint_prefers(make_model: MakeModel) -> None:
    """No beams, penalties or temperature of its own; a first token that it forces and tokens that it bans are heeded as ever."""
    plain, opinionated = make_model().train(), make_model().train()
    opinionated.generation_config.update(**OPINIONS)
    batch = Collate.of(plain)(ROWS.take(range(16)))
    drawn = []
    for student in (plain, opinionated):
        torch.manual_seed(0)
        drawn.append(own_answers(student, batch)["labels"])
    assert torch.equal(*drawn)
    assert opinionated.generation_config.num_beams == 4
    banned = int(drawn[0][0, 0])
    opinionated.generation_config.update(forced_bos_token_id=9, bad_words_ids=[[banned]])
    labels = own_answers(opinionated, batch)["labels"]
    assert (labels[:, 0] == 9).all()
    assert not (labels == banned).any()


def test_the_gradient_is_that_of_the_divergence_on_the_students_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cross-entropy with what the student made up; the mean over its own labels, whatever their number."""
    drawn: list[dict[str, torch.Tensor]] = []

    def remember(*given: Any) -> dict[str, torch.Tensor]:
        drawn.append(own_answers(*given))
        return dict(drawn[-1])

    monkeypatch.setattr(lesson, "own_answers", remember)
    teacher = make_t5(seed=1)
    plan = replace(PLAN, divergence=1.0, cross_entropy=0.5, on_policy=1.0)
    found = gradients(make_t5(), ROWS, plan, tmp_path, teacher)
    (batch,) = drawn
    labels = batch.pop("labels")
    student = make_t5()
    with torch.no_grad():
        asked = teacher(**batch).logits
    (divergence(student(**batch).logits, asked, labels) / (labels != IGNORED).sum()).backward()
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_student_comes_nearer_to_its_teacher_on_its_own_answers(tmp_path: Path) -> None:
    """Without a single label of the rows."""
    teacher = make_t5(layers=2, seed=3)
    student = make_student(teacher, encoder_layers=(0,), decoder_layers=(1,))
    rows = copy_rows(128)
    collate = Collate(pad_id=0, shift=teacher.prepare_decoder_input_ids_from_labels)
    batch = collate(rows.take(range(32)))

    def apart() -> float:
        torch.manual_seed(5)
        own = own_answers(student, batch)
        labels = own.pop("labels")
        with torch.no_grad():
            return divergence(student.eval()(**own).logits, teacher(**own).logits, labels).item() / int((labels != IGNORED).sum())

    before = apart()
    plan = TrainingPlan(
        steps=40,
        batch_size=16,
        learning_rate=3e-3,
        warmup_steps=0,
        divergence=1.0,
        divergence_kind="reverse_kl",
        on_policy=1.0,
        bf16=False,
    )
    train(student, rows, plan, state_dir=tmp_path, teacher=teacher)
    assert apart() < 0.6 * before


def test_a_training_begins_on_labels_and_ends_on_its_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The updates of the last part alone are the student's own."""
    steps: list[int] = []
    own = is_on_policy

    def remember(share: float, *, seed: int, step: int) -> bool:
        if chosen := own(share, seed=seed, step=step):
            steps.append(step)
        return chosen

    monkeypatch.setattr(lesson, "is_on_policy", remember)
    plan = TrainingPlan(steps=5, batch_size=4, divergence=1.0, on_policy=1.0, on_policy_from=0.6, bf16=False)
    train(make_t5(), ROWS, plan, state_dir=tmp_path, teacher=make_t5(seed=1))
    assert steps == [3, 4]


@pytest.mark.parametrize("more", [{}, {"divergence": 1.0, "top_k": 8}])
def test_a_plan_without_a_teacher_to_ask_is_refused(more: dict[str, float]) -> None:
    """Own answers have no label to learn and no distribution computed beforehand."""
    with pytest.raises(RecipeError, match="give divergence a weight, and leave top_k out"):
        TrainingPlan(steps=1, on_policy=0.5, **more)  # type: ignore[arg-type]

"""Losses against hand numbers, a slow reference and the empty edge."""

from __future__ import annotations

import math

import pytest
import torch
from tests.distill.losses.sums import cross_entropy, divergence

from pocketseq_distill.losses.terms import IGNORED, TopTokens, distillation_loss
from pocketseq_distill.losses.weights import Divergence, LossWeights


def test_cross_entropy_of_a_hand_computed_row() -> None:
    """Logits [0, ln 3] give probabilities 1/4 and 3/4; the sum over two labels is −ln(1/4) − ln(3/4)."""
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)]]])
    assert cross_entropy(logits, torch.tensor([[0, 1]])).item() == pytest.approx(math.log(4) + math.log(4 / 3))


def test_divergence_of_a_hand_computed_row() -> None:
    """Teacher (1/2, 1/2) against student (1/4, 3/4): ½ln2 + ½ln(2/3), temperature 1."""
    teacher = torch.zeros(1, 1, 2)
    student = torch.tensor([[[0.0, math.log(3)]]])
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert divergence(student, teacher, torch.tensor([[1]])).item() == pytest.approx(expected, rel=1e-5)


def test_temperature_softens_both_sides_and_scales_by_its_square() -> None:
    """At T = 2 logits [0, ln 9] count as [0, ln 3], and the divergence is multiplied by 4."""
    teacher = torch.zeros(1, 1, 2)
    student = torch.tensor([[[0.0, math.log(9)]]])
    expected = 4 * (0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert divergence(student, teacher, torch.tensor([[1]]), temperature=2).item() == pytest.approx(expected, rel=1e-5)


def test_losses_equal_a_slow_reference() -> None:
    """Loops over every labelled position in float64 give the same sums."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(3, 5, 11, generator=generator), torch.randn(3, 5, 11, generator=generator)
    labels = torch.randint(0, 11, (3, 5), generator=generator)
    labels[0, 3:] = labels[2, 1:] = IGNORED
    entropy = apart = 0.0
    for row in range(3):
        for step in range(5):
            if labels[row, step] == IGNORED:
                continue
            p = (student[row, step].double()).softmax(0)
            entropy -= math.log(p[labels[row, step]].item())
            p, q = (student[row, step].double() / 1.5).softmax(0), (teacher[row, step].double() / 1.5).softmax(0)
            apart += 2.25 * sum(t * (math.log(t) - math.log(s)) for s, t in zip(p.tolist(), q.tolist(), strict=True))
    assert cross_entropy(student, labels).item() == pytest.approx(entropy, rel=1e-5)
    assert divergence(student, teacher, labels, temperature=1.5).item() == pytest.approx(apart, rel=1e-5)
    weights = LossWeights(cross_entropy=0.5, divergence=2.0, temperature=1.5)
    assert distillation_loss(student, teacher, labels, weights).item() == pytest.approx(0.5 * entropy + 2 * apart, rel=1e-5)


def test_a_student_that_equals_its_teacher_has_no_divergence() -> None:
    """KL of a distribution from itself is zero, and so is its gradient."""
    logits = torch.randn(2, 3, 7, requires_grad=True)
    loss = divergence(logits, logits.detach().clone(), torch.ones(2, 3, dtype=torch.long))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


def test_nothing_labelled_costs_nothing() -> None:
    """All labels ignored: both losses are zero and still differentiable."""
    logits = torch.randn(2, 3, 7, requires_grad=True)
    labels = torch.full((2, 3), IGNORED)
    loss = distillation_loss(logits, torch.randn(2, 3, 7), labels, LossWeights(divergence=1.0))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_smoothing_spreads_probability_over_the_vocabulary() -> None:
    """With smoothing ε the loss is (1−ε)·CE(label) + ε·mean over the vocabulary of CE."""
    logits = torch.randn(1, 1, 5)
    logprobs = logits[0, 0].log_softmax(0)
    expected = -(0.9 * logprobs[2] + 0.1 * logprobs.mean())
    assert cross_entropy(logits, torch.tensor([[2]]), smoothing=0.1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_bfloat16_logits_are_summed_in_float32() -> None:
    """A long sum of small terms keeps its precision."""
    logits = torch.zeros(1, 4000, 4, dtype=torch.bfloat16)
    labels = torch.zeros(1, 4000, dtype=torch.long)
    assert cross_entropy(logits, labels).item() == pytest.approx(4000 * math.log(4), rel=1e-4)


def test_reverse_kl_by_hand() -> None:
    """KL(student ‖ teacher) of (¼, ¾) from (½, ½) is ¼·log ½ + ¾·log 3/2."""
    student = torch.tensor([[[0.0, math.log(3)]]])
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    found = divergence(student, torch.zeros(1, 1, 2), torch.tensor([[1]]), kind="reverse_kl")
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_jensen_shannon_by_hand() -> None:
    """With β = ¼, P = (½, ½) and Q = (¼, ¾), both are compared with M = ¼·P + ¾·Q = (5/16, 11/16)."""
    student = torch.tensor([[[0.0, math.log(3)]]])
    middle = (5 / 16, 11 / 16)
    teacher_part = sum(0.5 * math.log(0.5 / m) for m in middle)
    student_part = sum(q * math.log(q / m) for q, m in zip((0.25, 0.75), middle, strict=True))
    found = divergence(student, torch.zeros(1, 1, 2), torch.tensor([[1]]), kind="jensen_shannon", beta=0.25)
    assert found.item() == pytest.approx(0.25 * teacher_part + 0.75 * student_part, rel=1e-5)


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jensen_shannon"])
def test_the_likeliest_tokens_with_a_tail_bound_the_divergence_from_below(kind: Divergence) -> None:
    """Taking tokens together can only hide a difference; with all but one token kept nothing is hidden."""
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 3, 9, generator=generator), torch.randn(2, 3, 9, generator=generator)
    labels = torch.randint(0, 9, (2, 3), generator=generator)
    labels[1, 2] = IGNORED

    def cut(tokens: int) -> float:
        top = teacher.log_softmax(-1).topk(tokens)
        return divergence(student, TopTokens(top.indices, top.values), labels, kind=kind).item()

    whole = divergence(student, teacher, labels, kind=kind).item()
    assert cut(8) == pytest.approx(whole, rel=1e-4)
    assert 0 < cut(2) < cut(4) < whole


def test_a_teacher_that_is_sure_leaves_a_finite_tail() -> None:
    """All of the probability on the kept tokens: the loss and its gradient stay numbers."""
    student = torch.randn(1, 1, 5, requires_grad=True)
    sure = TopTokens(torch.tensor([[[2, 0]]]), torch.tensor([[[0.0, -60.0]]]))
    for kind in ("forward_kl", "reverse_kl", "jensen_shannon"):
        loss = divergence(student, sure, torch.tensor([[2]]), kind=kind)
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_doubt_by_hand() -> None:
    """Of (¼, ¾) and a balance of ⅕: a right label costs ⅕·log 4/3, a wrong one ⅘ of log 2 less the entropy."""
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)]]])
    weights = LossWeights(cross_entropy=0.0, doubt=1.0, balance=0.2)
    right, wrong = (distillation_loss(logits[:, :1], None, torch.tensor([[label]]), weights).item() for label in (1, 0))
    assert right == pytest.approx(0.2 * math.log(4 / 3), rel=1e-5)
    assert wrong == pytest.approx(0.8 * (math.log(2) + 0.25 * math.log(0.25) + 0.75 * math.log(0.75)), rel=1e-5)

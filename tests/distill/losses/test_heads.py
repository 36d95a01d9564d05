"""Losses a few positions at a time are the losses of all at once, in bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.distill.models import MakeModel
from tests.distill.weights import loud
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pocketseq_distill.losses.heads import Head, Unspoken, chunked_loss, label_logprobs, likeliest, unspoken
from pocketseq_distill.losses.terms import IGNORED, TopTokens, distillation_loss
from pocketseq_distill.losses.weights import LossWeights

WEIGHTS = LossWeights(cross_entropy=0.5, divergence=1.0, kind="jensen_shannon", temperature=2.0, smoothing=0.1, doubt=0.3)


class Largest(TorchDispatchMode):
    """Remembers the most elements of any tensor that an operation gave."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self.elements = max(self.elements, leaf.numel())
        return found


def head(vocab: int, width: int, *, seed: int) -> tuple[Head, Tensor]:
    weight = torch.randn(vocab, width, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return Head(lambda states: torch.nn.functional.linear(states, weight), None, vocab, (weight,)), weight


def labels_of(batch: int, steps: int, vocab: int) -> Tensor:
    labels = torch.randint(0, vocab, (batch, steps), generator=torch.Generator().manual_seed(5))
    labels[0, steps // 2 :] = IGNORED
    return labels


@pytest.mark.parametrize("fixed", [False, True], ids=["labelled positions", "all positions"])
@pytest.mark.parametrize("taught", ["states", "top", "nothing"])
def test_chunks_give_the_loss_and_gradients_of_the_whole(taught: str, fixed: bool) -> None:
    """Whatever the teacher tells, and whether padding is left out or computed and not counted: one sum, with one gradient."""
    labels = labels_of(3, 8, 40)
    weights = WEIGHTS if taught != "top" else LossWeights(cross_entropy=0.5, divergence=1.0, doubt=0.3)
    ours, weight = head(40, 6, seed=0)
    theirs, _ = head(40, 5, seed=1)
    states = torch.randn(3, 8, 6).requires_grad_()
    their_states = torch.randn(3, 8, 5)
    logits = theirs(their_states).detach()
    top = TopTokens(*reversed(logits.log_softmax(-1).topk(4)))
    teachers = {"states": (Unspoken(their_states, theirs), logits), "top": (top, top), "nothing": (None, None)}
    unspoken_teacher, spoken_teacher = teachers[taught]
    whole = distillation_loss(ours(states), spoken_teacher, labels, weights)
    expected = torch.autograd.grad(whole, (states, weight))
    chunked = chunked_loss(Unspoken(states, ours), unspoken_teacher, labels, weights, positions=3, fixed=fixed)  # type: ignore[arg-type]
    found = torch.autograd.grad(chunked, (states, weight))
    torch.testing.assert_close(chunked, whole)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_no_tensor_grows_with_the_answers_over_a_large_vocabulary() -> None:
    """256 positions over 32,000 tokens would be 8 million logits; forward and backward never hold more than a few chunks."""
    vocab, width, positions = 32_000, 8, 20
    labels = torch.randint(0, vocab, (4, 64))
    ours, weight = head(vocab, width, seed=0)
    theirs, _ = head(vocab, width, seed=1)
    states = torch.randn(4, 64, width).requires_grad_()
    with Largest() as largest:
        teacher = Unspoken(torch.randn(4, 64, width), theirs)
        loss = chunked_loss(Unspoken(states, ours), teacher, labels, WEIGHTS, positions=positions)
        torch.autograd.grad(loss, (states, weight))
    assert vocab * width < largest.elements <= 2 * positions * vocab  # the divergence stacks two distributions
    with Largest() as unbounded:
        distillation_loss(ours(states), theirs(states.detach()), labels, WEIGHTS)
    assert unbounded.elements > 10 * largest.elements


def test_log_probabilities_of_labels_and_their_gradient() -> None:
    """In chunks as from the whole distribution; zero where there is no label."""
    labels = labels_of(2, 6, 30)
    ours, weight = head(30, 4, seed=0)
    states = torch.randn(2, 6, 4).requires_grad_()
    whole = ours(states).log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0] * (labels != IGNORED)
    found = label_logprobs(Unspoken(states, ours), labels, positions=2)
    torch.testing.assert_close(found, whole)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), (states, weight)),
        torch.autograd.grad(whole.square().sum(), (states, weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_the_likeliest_tokens_are_those_of_the_whole_vocabulary() -> None:
    """In chunks as at once, with their log-probabilities."""
    ours, _ = head(40, 6, seed=0)
    states = torch.randn(7, 6)
    whole = ours(states).log_softmax(-1).topk(4)
    found = likeliest(Unspoken(states, ours), 4, positions=3)
    assert torch.equal(found.ids, whole.indices)
    torch.testing.assert_close(found.logprobs, whole.values)


def test_nothing_labelled_costs_nothing() -> None:
    """All labels ignored: zero, and still differentiable."""
    ours, _ = head(9, 4, seed=0)
    states = torch.randn(2, 3, 4).requires_grad_()
    labels = torch.full((2, 3), IGNORED)
    loss = (
        chunked_loss(Unspoken(states, ours), None, labels, LossWeights(doubt=1.0))
        + label_logprobs(Unspoken(states, ours), labels).sum()
    )
    loss.backward()
    assert loss.item() == 0
    assert states.grad is not None
    assert not states.grad.any()


def test_what_a_model_has_in_mind_is_what_it_says(make_model: MakeModel) -> None:
    """States and output layer, scaling and bias of every family included, spell out its logits; afterwards it speaks as before."""
    model = loud(make_model())
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()
    ids = torch.arange(3, 15).reshape(2, 6)
    before = model(input_ids=ids, decoder_input_ids=ids).logits
    with unspoken(model) as caught:
        said = model(input_ids=ids, decoder_input_ids=ids).logits
    assert said.size(1) == 1
    (thought,) = caught
    torch.testing.assert_close(thought.head(thought.states), before)
    torch.testing.assert_close(model(input_ids=ids, decoder_input_ids=ids).logits, before)

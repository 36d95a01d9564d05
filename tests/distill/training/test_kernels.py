"""Kernels: fewer passes over memory, the same gradients, the same model afterwards."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.distill.models import MakeModel, make_t5
from tests.distill.weights import loud
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, T5Config, T5ForConditionalGeneration

from pocketseq_distill.training.kernels import fewer_passes
from pocketseq_distill.training.rounding import rounded


def batch() -> dict[str, Tensor]:
    """Three rows of unlike length, labels behind the end of the shorter ones included."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 24, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 5:] = mask[2, 2:] = 0
    labels = torch.randint(3, 24, (3, 6), generator=generator)
    labels[1, 4:] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def uneven(model: PreTrainedModel) -> PreTrainedModel:
    """Random weights, those of norms and biases included."""
    loud(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    return model


def learn(model: PreTrainedModel, *, by_kernels: bool, bf16: bool = False) -> dict[str, Tensor]:
    """Loss and gradients of one pass, as float32."""
    model.zero_grad()
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        if by_kernels:
            with fewer_passes(model):
                loss = model(**batch(), use_cache=False).loss
        else:
            loss = model(**batch(), use_cache=False).loss
    loss.backward()
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return {"loss": loss.detach().float()[None], **gradients}


def gated_t5() -> PreTrainedModel:
    """A T5 v1.1: gated, its activation spelled out."""
    torch.manual_seed(4)
    shape = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 4}
    return T5ForConditionalGeneration(
        T5Config(vocab_size=24, feed_forward_proj="gated-gelu", dropout_rate=0.0, decoder_start_token_id=0, **shape)
    )


def attentions(model: PreTrainedModel) -> set[str]:
    """What its attention goes by."""
    return {module.config._attn_implementation for module in model.modules() if isinstance(module, PreTrainedModel)}


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_the_spelled_out_way(make_model: MakeModel, training: bool) -> None:
    """Every family, rows of unlike length, in float32: the same loss and the same gradient of every weight."""
    model = uneven(make_model()).train(training)
    expected = learn(model, by_kernels=False)
    found = learn(model, by_kernels=True)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6 + 1e-4 * float(value.abs().max()))


def test_gradients_of_a_gated_t5_are_those_of_the_spelled_out_way() -> None:
    """The curve of its activation is computed in one operation instead of nine."""
    model = uneven(gated_t5()).train()
    expected, found = learn(model, by_kernels=False), learn(model, by_kernels=True)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6 + 1e-4 * float(value.abs().max()))


@pytest.mark.parametrize("gated", [False, True])
def test_in_bfloat16_they_are_as_near_to_float32_as_the_spelled_out_way(gated: bool) -> None:
    """Rounding differs, but not by more: at most half as far again from the float32 gradients, all weights together."""
    model = uneven(gated_t5() if gated else make_t5()).train()
    exact = learn(model, by_kernels=False)
    spelled, found = learn(model, by_kernels=False, bf16=True), learn(model, by_kernels=True, bf16=True)

    def apart(some: dict[str, Tensor]) -> float:
        return math.sqrt(sum(float((some[name] - value).square().sum()) for name, value in exact.items()))

    assert 0 < apart(found) < 1.5 * apart(spelled)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_row_with_nothing_to_look_at_gives_numbers(bf16: bool) -> None:
    """All of its source is padding: attention spreads evenly, and every gradient is finite."""
    model = uneven(make_t5()).train()
    rows = batch()
    rows["attention_mask"][1] = 0
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16), fewer_passes(model):
        loss = model(**rows, use_cache=False).loss
    loss.backward()
    assert all(one.grad.isfinite().all() for one in model.parameters() if one.grad is not None)
    assert loss.isfinite()


def test_dropout_drops_in_training_alone() -> None:
    """A model that drops activations gives another loss every time it trains, and one loss where it does not."""
    torch.manual_seed(0)
    shape = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4}
    model = T5ForConditionalGeneration(T5Config(vocab_size=24, dropout_rate=0.4, decoder_start_token_id=0, **shape))

    def losses() -> set[float]:
        with fewer_passes(model), torch.no_grad():
            return {float(model(**batch(), use_cache=False).loss) for _ in range(3)}

    model.train()
    assert len(losses()) == 3
    model.eval()
    assert len(losses()) == 1


def test_the_model_is_afterwards_what_it_was(make_model: MakeModel, tmp_path: Path) -> None:
    """Even where the pass fails: attention and modules are the model's own again, and what is saved loads as ever."""
    model = make_model().eval()
    before = model(**batch()).logits
    with fewer_passes(model):
        assert attentions(model) == {"pocketseq"}
    with pytest.raises((TypeError, ValueError)), fewer_passes(model):
        model(nothing=True)
    assert attentions(model) == {"sdpa"}
    assert not [name for name, module in model.named_modules() if "forward" in module.__dict__]
    assert torch.equal(model(**batch()).logits, before)
    with fewer_passes(model):
        model.save_pretrained(tmp_path)
    assert torch.equal(AutoModelForSeq2SeqLM.from_pretrained(tmp_path)(**batch()).logits, before)


def test_attention_that_tells_where_it_looks_stays() -> None:
    """Losses on attention need its weights, which the kernel does not give."""
    model = make_t5()
    model.set_attn_implementation("eager")
    with fewer_passes(model):
        outputs = model(**batch(), output_attentions=True)
    assert all(weights is not None for weights in outputs.encoder_attentions)


def test_a_model_that_is_rounded_stays() -> None:
    """Rounding looks at activations in float32; the kernels would have cast them."""
    model = make_t5().train()
    with rounded(model):
        expected = model(**batch()).loss
        with fewer_passes(model):
            assert attentions(model) == {"sdpa"}
            assert torch.equal(model(**batch()).loss, expected)


def test_weights_of_two_precisions_stay_bridged() -> None:
    """In a model held in bfloat16 whose contracting projections are kept in float32, without autocast."""
    model = gated_t5().to(torch.bfloat16)
    for block in (*model.encoder.block, *model.decoder.block):
        block.layer[-1].DenseReluDense.wo.float()
    expected = model(**batch()).loss
    with fewer_passes(model):
        found = model(**batch()).loss
    torch.testing.assert_close(found.float(), expected.float(), rtol=2e-2, atol=0)

"""Models that compute as their int8 export does, and updates that get them used to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tests.distill.models import MakeModel, copy_rows, make_t5
from transformers import PreTrainedModel

from pocketseq.errors import RecipeError
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.rounding import BLOCKS, round_activations, round_blocks, round_channels, rounded, tune_for_int8
from pocketseq_export.quantization import BLOCKS as EXPORTED
from pocketseq_export.quantization import by_block

PLAN = TrainingPlan(steps=4, batch_size=16, warmup_steps=0, bf16=False, validate_every=2, int8_steps=5)


def test_weights_are_rounded_by_channel() -> None:
    """127 steps up to each row's largest; a row of zeros stays."""
    weight = torch.tensor([[1.27, 0.014, -0.5], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(round_channels(weight), torch.tensor([[1.27, 0.01, -0.5], [0.0, 0.0, 0.0]]))


def test_tables_are_rounded_by_block() -> None:
    """Each 16 of 48 numbers by their own largest."""
    rows = torch.cat((torch.full((16,), 1.27), torch.full((16,), 12.7), torch.tensor([127.0, 0.4] * 8)))[None]
    rows[0, 1] = 0.014
    expected = rows.clone()
    expected[0, 1] = 0.01
    expected[0, 33::2] = 0.0
    torch.testing.assert_close(round_blocks(rows), expected)


def product(node: onnx.NodeProto, constants: dict[str, np.ndarray], states: torch.Tensor, *, outputs: int) -> np.ndarray:
    """What ONNX Runtime makes of states float32 [rows, inputs] by one operator of its own."""
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(states.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(states), outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)], ir_version=9
    )
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as the SDK does where sums would overflow
    (found,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": states.numpy()})
    return np.asarray(found)


def test_blocks_are_those_of_the_export() -> None:
    """Rooms do not import one another; this holds them together."""
    assert EXPORTED[8] == BLOCKS


def test_a_projection_of_a_decoder_is_rounded_as_the_runtime_computes_it() -> None:
    """ONNX Runtime's own MatMulNBits on the same numbers: rows unlike in size do not coarsen one another."""
    generator = torch.Generator().manual_seed(0)
    weight, states = torch.randn(24, 64, generator=generator), torch.randn(5, 64, generator=generator)
    states *= torch.tensor([0.01, 1.0, 100.0, 3.0, 0.0])[:, None]
    quantized = by_block(weight.numpy())
    assert quantized.block == 64
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=64, N=24, bits=8, block_size=64, accuracy_level=4
    )
    constants = {"w": quantized.values.reshape(24, 1, 64), "s": quantized.scales}
    expected = product(node, constants, states, outputs=24)
    found = torch.nn.functional.linear(round_blocks(states), round_blocks(weight))
    for row, wanted in zip(found, torch.from_numpy(expected), strict=True):
        torch.testing.assert_close(row, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_what_is_computed_token_by_token_depends_on_no_other_row(make_model: MakeModel) -> None:
    """In a decoder; an encoder has one scale for all that it reads, keys and values of the decoder's among it."""
    model = make_model()
    ids = torch.arange(3, 15).reshape(2, 6)
    states = model.get_encoder()(input_ids=ids).last_hidden_state.detach()

    def answers(places: list[int]) -> torch.Tensor:
        found: torch.Tensor = model.get_decoder()(input_ids=ids[places], encoder_hidden_states=None).last_hidden_state
        return found

    with rounded(model):
        torch.testing.assert_close(answers([0]), answers([0, 1])[:1])
        layers = dict(model.named_modules())
        names = [name for name in layers if name.endswith((".EncDecAttention.k", ".encoder_attn.v_proj"))]
        loud = torch.cat((states, 50 * states))
        for name in names:
            assert not torch.allclose(layers[name](states), layers[name](loud)[:2])
        assert names


def test_a_projection_is_rounded_as_the_runtime_computes_it() -> None:
    """ONNX Runtime's own DynamicQuantizeMatMul on the same numbers."""
    generator = torch.Generator().manual_seed(0)
    weight, states = torch.randn(24, 16, generator=generator), 3 * torch.randn(5, 16, generator=generator) + 1
    scales = weight.abs().amax(1) / 127
    values = torch.round(weight / scales[:, None]).to(torch.int8).numpy().T
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s", "z"], ["y"], domain="com.microsoft")
    constants = {"w": np.ascontiguousarray(values), "s": scales.numpy(), "z": np.zeros(24, dtype=np.int8)}
    expected = product(node, constants, states, outputs=24)
    found = torch.nn.functional.linear(round_activations(states), round_channels(weight))
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def test_gradients_go_straight_through() -> None:
    """As if nothing had been rounded."""
    weight = torch.randn(4, 16, requires_grad=True)
    for function in (round_channels, round_blocks, round_activations):
        (gradient,) = torch.autograd.grad(function(weight).sum(), weight)
        assert torch.equal(gradient, torch.ones_like(weight))


def test_a_rounded_model_says_nearly_the_same_and_is_itself_again_afterwards(make_model: MakeModel) -> None:
    """In every family; no weight changes."""
    model = make_model()
    ids = torch.arange(3, 15).reshape(2, 6)
    given = {"input_ids": ids, "decoder_input_ids": ids}
    before = model(**given).logits
    with rounded(model):
        inside = model(**given).logits
    assert torch.equal(model(**given).logits, before)
    assert not torch.equal(inside, before)
    assert (inside - before).abs().mean() < 0.05 * before.std()


@pytest.mark.parametrize(
    ("scores", "kept"),
    [((0.5, 0.4, 0.4), "as trained"), ((0.1, 0.2, 0.2), "more updates"), ((0.1, 0.1, 0.3), "more updates, rounded")],
)
def test_the_best_of_three_is_kept(tmp_path: Path, scores: tuple[float, ...], kept: str) -> None:
    """As trained, trained on, and trained on with rounding are measured rounded; the first of the best stays."""
    model = make_t5()
    seen: list[dict[str, torch.Tensor]] = []

    def validation(measured: PreTrainedModel) -> dict[str, float]:
        assert "forward" in measured.get_output_embeddings().__dict__  # rounded while it is measured
        seen.append({name: value.clone() for name, value in measured.state_dict().items()})
        return {"exact_match": scores[len(seen) - 1]}

    verdict = tune_for_int8(model, copy_rows(64), PLAN, state_dir=tmp_path / "int8", validation=validation)
    assert verdict.kept == kept
    assert (verdict.trained, verdict.longer, verdict.rounded) == scores
    place = scores.index(max(scores))
    assert all(torch.equal(value, seen[place][name]) for name, value in model.state_dict().items())
    assert not torch.equal(seen[1]["shared.weight"], seen[2]["shared.weight"])
    assert not list(tmp_path.iterdir())


def test_further_updates_of_an_earlier_student_are_not_taken_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed while they are measured, a longer training, or one by another teacher, comes with other weights: it updates those."""

    def further(folder: str, seed: int, score: Callable[[int], float]) -> PreTrainedModel:
        model, calls = make_t5(seed=seed), count()

        def validation(_: PreTrainedModel) -> dict[str, float]:
            return {"exact_match": score(next(calls))}

        tune_for_int8(model, copy_rows(64), PLAN, state_dir=tmp_path / folder, validation=validation)
        return model

    def killed(call: int) -> float:
        return 1 / (1 - call)  # once the first candidate is trained

    def longer_is_best(call: int) -> float:
        return float(call == 1)

    expected = further("unharmed", 1, longer_is_best)
    for seed in (0, 1):
        with pytest.raises(ZeroDivisionError):
            further("killed", seed, killed)
    assert capsys.readouterr().err.count("what was trained there began from something else") == 1
    found = further("killed", 1, longer_is_best)
    assert "began from something else" not in capsys.readouterr().err  # its own updates go on
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in found.state_dict().items())


def test_updates_with_rounding_need_a_validation() -> None:
    """Nobody could say whether to keep them."""
    with pytest.raises(RecipeError, match="int8_steps are kept where they are measured better; give validate_every too"):
        replace(PLAN, validate_every=None)

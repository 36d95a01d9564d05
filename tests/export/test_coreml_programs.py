"""Core ML packages, written without a Mac, say what the original model says; the saved files are run by an interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from tests.coreml.interpreter import SavedFunction
from tests.export.models import bart, t5, untied_t5, write_checkpoint

from pocketseq.errors import CheckpointError
from pocketseq.template import Field, Template
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export.coreml import PRECISIONS, write_programs
from pocketseq_export.coreml.programs import source_lengths
from pocketseq_export.graphs import Reach, author
from pocketseq_export.reference import Reference

RANDOM = np.random.default_rng(0)
SOURCE = RANDOM.integers(2, 79, (1, 13))
TARGET = RANDOM.integers(2, 79, (1, 9))
STATEFUL = ("fp16", "int8")


class Saved:
    """A package on disk, run by the interpreter."""

    def __init__(self, package: Path, *, half: bool = False) -> None:
        data = package / "Data" / "com.apple.CoreML"
        self.weights = data / "weights" / "weight.bin"
        if (data / "model.mlmodel").exists():
            self.encode, self.step = (SavedFunction(data / "model.mlmodel", name, half=half) for name in ("encode", "step"))
        else:
            self.encode, self.step = (SavedFunction(data / f"{name}.mlmodel", half=half) for name in ("encode", "step"))
        self.inputs = {item.name: item.type.multiArrayType for item in self.step.description.input}

    def read(self, source: Any) -> dict[str, Any]:
        """Encode a source [1, tokens], padded to the shortest length that holds it."""
        (ids,) = self.encode.description.input
        lengths = [choice.shape[1] for choice in ids.type.multiArrayType.enumeratedShapes.shapes] or [
            ids.type.multiArrayType.shape[1]
        ]
        padded = np.full((1, min(length for length in lengths if length >= source.shape[1])), -1)
        padded[:, : source.shape[1]] = source
        mask = np.full(self.inputs["source_mask"].shape, -1e4)
        mask[..., : source.shape[1]] = 0
        return self.encode.run({"ids": padded}) | {"source_mask": mask}

    def decode(self, source: Any, choose: Callable[[int, Any], int], steps: int) -> Any:
        """Log-probabilities [steps, vocab] along the tokens that are chosen by place and log-probabilities so far."""
        encoded = self.read(source)
        state = self.step.new_state()
        cache = np.zeros(self.inputs["cache"].shape) if "cache" in self.inputs else None
        lines: list[Any] = []
        for place in range(steps):
            feeds = {"token": np.array([[choose(place, lines)]]), "position": [place]}
            feeds |= {name: encoded[name] for name in ("cross", "source_mask")}
            found = self.step.run(feeds if cache is None else feeds | {"cache": cache}, state)
            if cache is not None:
                cache[:, :, place : place + 1] = found["new"]
            lines.append((found["logits"] - found["logsumexp"])[0, 0])
        return np.array(lines)


def written(model: Any, directory: Path, precision: str, *, half: bool = False) -> Saved:
    write_programs(author(model), directory, precision=precision)
    return Saved(directory / f"{precision}.mlpackage", half=half)


def along(target: Any) -> Callable[[int, Any], int]:
    return lambda place, lines: int(target[0, place])


def original(model: Any, source: Any = SOURCE, target: Any = TARGET) -> Any:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(source), decoder_input_ids=torch.tensor(target), use_cache=False).logits
    return logits[0].log_softmax(-1).numpy()


def greedy_tokens(model: Any, steps: int) -> list[int]:
    """What Hugging Face's own model says, token by token."""
    said = [int(TARGET[0, 0])]
    for _ in range(steps):
        said.append(int(original(model, target=np.array([said]))[-1].argmax()))
    return said[1:]


def test_fp32_programs_say_what_the_original_says(model: Any, tmp_path: Path) -> None:
    """Every family: the same log-probabilities along a target, the same tokens greedily, the same pooled state."""
    saved = written(model, tmp_path, "fp32")
    np.testing.assert_allclose(saved.decode(SOURCE, along(TARGET), 9), original(model), atol=1e-3)
    lines = saved.decode(SOURCE, lambda _, lines: int(lines[-1].argmax()) if lines else int(TARGET[0, 0]), 9)
    assert lines.argmax(-1).tolist() == greedy_tokens(model, 9)
    pooled = author(model).encode(torch.tensor(SOURCE), torch.ones(SOURCE.shape, dtype=torch.long)).pooled
    np.testing.assert_allclose(saved.read(SOURCE)["pooled"], pooled.numpy(), atol=1e-4)


@pytest.mark.parametrize("build", [t5, untied_t5, bart], ids=["t5", "t5-v1.1", "bart"])
def test_float16_rounds_and_no_more(build: Any, tmp_path: Path) -> None:
    """With every operator's result rounded to float16, distributions diverge by a thousandth of a nat at most."""
    model = build()
    found, expected = written(model, tmp_path, "fp16", half=True).decode(SOURCE, along(TARGET), 9), original(model)
    assert (np.exp(expected) * (expected - found)).sum(axis=-1).max() < 1e-3
    np.testing.assert_allclose(found, expected, atol=0.1, rtol=0.01)


def test_int8_is_close_to_the_original(model: Any, tmp_path: Path) -> None:
    """Every family, as a distribution: a fiftieth of a nat of divergence at most, in models whose weights are noise."""
    found, expected = written(model, tmp_path, "int8", half=True).decode(SOURCE, along(TARGET), 9), original(model)
    assert (np.exp(expected) * (expected - found)).sum(axis=-1).mean() < 0.02


@pytest.mark.parametrize("build", [t5, bart], ids=["t5", "bart"])
def test_a_state_and_a_cache_that_is_handed_over_say_the_same(build: Any, tmp_path: Path) -> None:
    """To the last bit, at every precision that has both."""
    for precision in STATEFUL:
        lines = [
            written(build(), tmp_path, name, half=True).decode(SOURCE, along(TARGET), 9)
            for name in (precision, f"{precision}-stateless")
        ]
        # The dequantizing operators of both systems multiply the same numbers.
        np.testing.assert_array_equal(*lines)


@pytest.mark.parametrize("length", [1, 32, 33, 200])
def test_any_length_of_a_source_is_read(length: int, tmp_path: Path) -> None:
    """Padded to the next of a few lengths, which changes nothing; farther than relative positions tell apart."""
    source = RANDOM.integers(2, 79, (1, length))
    model = t5()
    np.testing.assert_allclose(
        written(model, tmp_path, "fp32").decode(source, along(TARGET), 9), original(model, source), atol=1e-3
    )


def test_states_beyond_the_square_root_of_float16_are_normed(tmp_path: Path) -> None:
    """The square of 256 is infinite in float16; T5's states grow far larger."""
    model = t5()
    with torch.no_grad():
        model.shared.weight.mul_(400)
    saved = written(model, tmp_path, "fp16", half=True)
    np.testing.assert_allclose(saved.decode(SOURCE, along(TARGET), 9), original(model), atol=0.5, rtol=0.01)


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    """With the precision that holds them."""
    model = t5()
    with torch.no_grad():
        model.encoder.block[0].layer[0].SelfAttention.o.weight[0, 0] = 1e5
    with pytest.raises(CheckpointError, match="found 100000.* in encoder_layers_0_attention_output_weight; export coreml/fp32"):
        write_programs(author(model), tmp_path, precision="int8")


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("build", [t5, bart, untied_t5], ids=["tied t5", "tied bart", "untied t5"])
def test_no_weight_is_stored_twice(build: Any, precision: str, tmp_path: Path) -> None:
    """Neither a table that encoder, decoder and output share, nor any weight in both functions."""
    model = author(build())
    write_programs(model, tmp_path, precision=precision)
    stored = Saved(tmp_path / f"{precision}.mlpackage").weights.stat().st_size
    weights = sum(parameter.numel() for parameter in model.parameters())
    norms_and_scales = sum(parameter.numel() if parameter.ndim == 1 else len(parameter) for parameter in model.parameters())
    records = 2 * 64 * 2 * sum(1 for _ in model.parameters())  # a header of 64 bytes and padding to 64, two for what has scales
    expected = {"fp32": 4 * weights, "fp16": 2 * weights, "int8": weights + 2 * norms_and_scales + weights // 20}
    assert stored <= expected[precision.removesuffix("-stateless")] + records


def test_a_kept_layer_is_not_quantized(tmp_path: Path) -> None:
    """So that what int8 breaks can be mended."""
    model = author(t5())
    for name, keep in (("all", ()), ("kept", ("decoder.layers.1.ffn.output",))):
        (tmp_path / name).mkdir()
        write_programs(model, tmp_path / name, precision="int8", keep=keep)
    sizes = [Saved(tmp_path / name / "int8.mlpackage").weights.stat().st_size for name in ("all", "kept")]
    assert sizes[1] > sizes[0] + 1000


@pytest.mark.parametrize("precision", ["int8", "int8-stateless"])
def test_the_same_model_gives_the_same_bytes(precision: str, tmp_path: Path) -> None:
    """So that a bundle's hashes tell whether anything has changed."""
    contents = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        files = write_programs(author(t5()), tmp_path / name, precision=precision)
        contents.append({file.relative_to(tmp_path / name): file.read_bytes() for file in files})
    assert contents[0] == contents[1]


def test_a_stateful_package_is_one_model_of_two_functions_for_ios_18(tmp_path: Path) -> None:
    """As coremltools reads it: states of float16, and a source of one of a few lengths."""
    write_programs(author(t5()), tmp_path, precision="int8")
    spec = ct.models.MLModel(str(tmp_path / "int8.mlpackage"), skip_model_load=True).get_spec()
    assert spec.specificationVersion == ct.target.iOS18.value
    functions = {function.name: function for function in spec.description.functions}
    assert set(functions) == {"encode", "step"}
    (state,) = functions["step"].state
    kind = state.type.stateType.arrayType
    assert (tuple(kind.shape), kind.dataType) == ((4, 4, 256, 8), kind.FLOAT16)
    (ids,) = functions["encode"].input
    assert [tuple(shape.shape) for shape in ids.type.multiArrayType.enumeratedShapes.shapes] == [
        (1, length) for length in (32, 64, 128, 256, 512)
    ]


@pytest.mark.parametrize("precision", ["fp32", "fp16-stateless", "int8-stateless"])
def test_a_stateless_package_is_a_model_for_each_function_for_ios_16(precision: str, tmp_path: Path) -> None:
    """With one input of varying shape each, as systems before iOS 18 demand; the package as such opens as ``step``."""
    write_programs(author(t5()), tmp_path, precision=precision)
    package = tmp_path / f"{precision}.mlpackage"
    opened = ct.models.MLModel(str(package), skip_model_load=True).get_spec()
    assert "token" in {item.name for item in opened.description.input}
    for name in ("encode", "step"):
        spec = ct.utils.load_spec(str(package / "Data" / "com.apple.CoreML" / f"{name}.mlmodel"))
        assert spec.specificationVersion == ct.target.iOS16.value
        assert not spec.description.functions
        assert [list(function.block_specializations) for function in spec.mlProgram.functions.values()] == [["CoreML6"]]
        varying = [item for item in spec.description.input if item.type.multiArrayType.enumeratedShapes.shapes]
        assert len(varying) == 1
        assert not spec.description.state


@pytest.mark.parametrize("precision", ["int8", "int8-stateless"])
def test_opening_a_package_leaves_it_as_it_is(precision: str, tmp_path: Path) -> None:
    """Coremltools writes a package's manifest anew whenever it opens one; the bundle's hashes still hold."""
    files = write_programs(author(t5()), tmp_path, precision=precision)
    before = [file.read_bytes() for file in files]
    ct.models.MLModel(str(tmp_path / f"{precision}.mlpackage"), skip_model_load=True)
    assert [file.read_bytes() for file in files] == before


def test_a_template_beyond_the_usual_lengths_is_reached(tmp_path: Path) -> None:
    """What a bundle promises of inputs and answers holds for each of its runtimes; the lengths before it are as ever."""
    write_programs(author(t5(), Reach(source=700, target=300)), tmp_path, precision="fp16")
    saved = Saved(tmp_path / "fp16.mlpackage")
    (ids,) = saved.encode.description.input
    lengths = [shape.shape[1] for shape in ids.type.multiArrayType.enumeratedShapes.shapes]
    assert lengths == [32, 64, 128, 256, 512, 700]
    assert saved.step.new_state()["cache"].shape[2] == 300
    source = RANDOM.integers(2, 79, (1, 650))
    np.testing.assert_allclose(saved.decode(source, along(TARGET), 9), original(t5(), source), atol=0.1, rtol=0.01)


@pytest.mark.parametrize(
    ("positions", "lengths"),
    [(None, (32, 64, 128, 256, 512)), (1024, (32, 64, 128, 256, 512)), (48, (32, 48)), (32, (32,)), (20, (20,))],
)
def test_lengths_double_as_far_as_the_positions_go(positions: int | None, lengths: tuple[int, ...]) -> None:
    """To the length that nearly every template fits in, and none of them twice."""
    model = t5() if positions is None else bart(max_position_embeddings=positions)
    assert source_lengths(author(model)) == lengths


def test_no_length_is_beyond_the_longest_input(tmp_path: Path) -> None:
    """Literals are counted in tokens of the bundle's tokenizer: each length costs a device its own program."""
    template = Template(fields=(Field(name="text", max_tokens=511),), primary="text")
    checkpoint = write_checkpoint(tmp_path / "checkpoint", t5(), template=template)
    tokenizer = TextTokenizer.from_file(checkpoint / "tokenizer.json")
    assert template.longest(tokenizer) == 512
    assert source_lengths(Reference.load(checkpoint).author(tokenizer)) == (32, 64, 128, 256, 512)


def test_a_model_with_few_positions_has_few_lengths(tmp_path: Path) -> None:
    """No program reads past the end of the table of positions."""
    saved = written(bart(max_position_embeddings=20), tmp_path, "fp16")
    (ids,) = saved.encode.description.input
    assert tuple(ids.type.multiArrayType.shape) == (1, 20)
    assert not ids.type.multiArrayType.enumeratedShapes.shapes
    assert saved.step.new_state()["cache"].shape[2] == 20

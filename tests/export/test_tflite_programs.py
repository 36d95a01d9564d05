"""TFLite programs say what the original model says, run by the SDK's own runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert.schema_py_generated import BuiltinOperator
from tests.export.models import VOCAB, bart, t5
from tests.export.test_onnx_programs import MASK, SOURCE, TARGET, decode, original

from pocketseq.errors import CheckpointError, InputTooLongError
from pocketseq.manifest import Geometry
from pocketseq.runtimes.litert import LiteRtRuntime
from pocketseq_export.graphs import EncoderDecoder, Reach, author
from pocketseq_export.tflite import PRECISIONS, write_programs
from pocketseq_export.tflite import programs as tflite_programs
from pocketseq_export.tflite.flatbuffer import read_program
from pocketseq_export.tflite.programs import source_lengths

ONE_BUCKET = Reach(source=16, target=16)


def geometry_of(graph: EncoderDecoder) -> Geometry:
    spec, stack = graph.spec, graph.spec.decoder
    return Geometry(
        vocab_size=spec.vocab_size,
        d_model=spec.d_model,
        encoder_layers=spec.encoder.layers,
        decoder_layers=stack.layers,
        heads=stack.heads,
        head_dim=stack.head_dim,
        start_id=0,
        end_id=1,
        pad_id=0,
        max_target_tokens=40,
    )


def open_program(graph: EncoderDecoder, path: Path) -> LiteRtRuntime:
    return LiteRtRuntime({f"tflite/{path.name}": path}, geometry_of(graph))


@pytest.fixture(scope="module")
def graph() -> EncoderDecoder:
    """One family in full: two lengths of a source, every precision."""
    return author(t5(), Reach(source=48, target=32))


@pytest.fixture(scope="module")
def write(graph: EncoderDecoder, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    directory = tmp_path_factory.mktemp("tflite")
    return lambda precision: next(iter(write_programs(graph, directory, precision=precision)))


def test_fp32_log_probabilities_are_those_of_the_original(model: Any, tmp_path: Path) -> None:
    """Every family, a padded batch, an empty cache at first, and chunks of several tokens."""
    graph = author(model, ONE_BUCKET)
    (path,) = write_programs(graph, tmp_path, precision="fp32")
    runtime = open_program(graph, path)
    np.testing.assert_allclose(decode(runtime, [2, 1, 6]), original(model), atol=1e-4)
    pooled = graph.encode(torch.tensor(SOURCE), torch.tensor(MASK)).pooled.numpy()
    np.testing.assert_allclose(runtime.encode(SOURCE, MASK).pooled, pooled, atol=1e-5)
    weights = sum(parameter.numel() for parameter in graph.parameters())
    tables = stored(path, lambda shape: shape in {(VOCAB, graph.spec.d_model), (graph.spec.vocab_size, graph.spec.d_model)})
    assert len(tables) == len([table for table in graph.parameters() if table.dim() == 2 and table.shape[0] in {VOCAB, 80}])
    assert sum(len(buffer.data) for buffer in read_program(path.read_bytes()).buffers if buffer.data is not None) < 4.6 * weights


def stored(path: Path, wanted: Callable[[tuple[int, ...]], bool]) -> set[int]:
    """Numbers of the buffers behind tensors of a shape."""
    program = read_program(path.read_bytes())
    found = {tensor.buffer for graph in program.subgraphs for tensor in graph.tensors if wanted(tuple(tensor.shape))}
    return {number for number in found if program.buffers[number].data is not None}


@pytest.mark.parametrize(("precision", "divergence"), [("fp32", 1e-7), ("fp16", 1e-5), ("int8w", 0.02), ("int8", 0.02)])
def test_every_precision_is_close_to_the_original(
    graph: EncoderDecoder, write: Callable[[str], Path], precision: str, divergence: float
) -> None:
    """As a distribution, in a model whose weights are noise; rows answer alone as they do together."""
    runtime, expected = open_program(graph, write(precision)), original(t5())
    found = decode(runtime, [1] * 9)
    assert (np.exp(expected) * (expected - found)).sum(axis=-1).mean() < divergence
    np.testing.assert_array_equal(decode(runtime, [9], slice(1, 2))[0], found[1])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_forbidden_token_is_never_said(precision: str, tmp_path: Path) -> None:
    """In a family too that has no bias of its own to carry the ban in; and the others are as likely as before."""
    model = t5()
    model.generation_config.bad_words_ids = [[75]]
    graph = author(model, ONE_BUCKET)
    found = decode(open_program(graph, *write_programs(graph, tmp_path, precision=precision)), [9])
    expected = torch.tensor(original(model)).index_fill(-1, torch.tensor([75]), -1e9).log_softmax(-1).numpy()
    assert (found[..., 75] < -1e8).all()
    assert (np.exp(expected) * (expected - found)).sum(axis=-1).mean() < 0.02


def test_every_length_of_a_source_answers_alike(graph: EncoderDecoder, write: Callable[[str], Path]) -> None:
    """The encoder for long sources reads short ones too: distances are what they were."""
    runtime = open_program(graph, write("fp32"))
    long = np.zeros((2, 40), np.int64)
    long[:, :13] = SOURCE
    mask = np.zeros_like(long)
    mask[:, :13] = MASK
    mask[:, 39] = 1  # a token far away makes the source a long one
    with torch.no_grad():
        expected = t5()(input_ids=torch.tensor(long), attention_mask=torch.tensor(mask), decoder_input_ids=torch.tensor(TARGET))
    found = runtime.step(TARGET, runtime.encode(long, mask), runtime.start(2)).logprobs
    np.testing.assert_allclose(found, expected.logits.log_softmax(-1).numpy(), atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_weight_is_stored_twice(graph: EncoderDecoder, write: Callable[[str], Path], precision: str) -> None:
    """Not for each length of a source, and not for a table that encoder, decoder and output share."""
    path = write(precision)
    assert len(stored(path, lambda shape: shape == (VOCAB, graph.spec.d_model))) == 1
    program = read_program(path.read_bytes())
    contents = Counter(bytes(buffer.data) for buffer in program.buffers if buffer.data is not None and len(buffer.data) >= 512)
    assert set(contents.values()) == {1}


def test_int8_programs_multiply_in_integers(graph: EncoderDecoder, write: Callable[[str], Path]) -> None:
    """Weights alone are turned back into floats before a product; dynamic int8 has no such operation."""
    assert operations(write("int8w"))[BuiltinOperator.DEQUANTIZE] > 0
    assert operations(write("int8"))[BuiltinOperator.DEQUANTIZE] == 0


def operations(path: Path) -> Counter[int]:
    program = read_program(path.read_bytes())
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in program.operatorCodes]
    return Counter(codes[operation.opcodeIndex] for graph in program.subgraphs for operation in graph.operators)


def test_weights_lie_where_a_mapped_file_may_be_read(write: Callable[[str], Path]) -> None:
    """The format promises 16 bytes, and kernels of some processors rely on it."""
    content = write("int8").read_bytes()
    for buffer in read_program(content).buffers:
        if buffer.data is not None and len(buffer.data) >= 512:
            assert content.index(bytes(buffer.data)) % 16 == 0


def test_fragile_layers_are_kept_in_sixteen_bits(graph: EncoderDecoder, write: Callable[[str], Path], tmp_path: Path) -> None:
    """By name, and the tables that share their weights with them."""
    (path,) = write_programs(graph, tmp_path, precision="int8", keep=["output", "decoder.layers.0.ffn.input"])
    program = read_program(path.read_bytes())
    (table,) = stored(path, lambda shape: shape == (VOCAB, graph.spec.d_model))
    assert len(program.buffers[table].data) == 2 * VOCAB * graph.spec.d_model
    assert path.stat().st_size > write("int8").stat().st_size
    found, expected = decode(open_program(graph, path), [9]), original(t5())
    assert (np.exp(expected) * (expected - found)).sum(axis=-1).mean() < 0.02


@pytest.mark.parametrize(("precision", "keep"), [("fp16", ()), ("int8", ("encoder.layers.0.ffn.output",))])
def test_weights_beyond_sixteen_bits_are_refused(precision: str, keep: tuple[str, ...], tmp_path: Path) -> None:
    """Wherever they were to be written so; eight bits hold them, with a scale."""
    model = t5(num_layers=1, num_decoder_layers=1)
    with torch.no_grad():
        model.encoder.block[0].layer[1].DenseReluDense.wo.weight[0, 0] = 1e5
    graph = author(model, ONE_BUCKET)
    with pytest.raises(CheckpointError, match=r"fp16 holds numbers up to 65504, found 1e\+05 in 'encoder\.layers\.0\.ffn\.output'"):
        write_programs(graph, tmp_path, precision=precision, keep=keep)
    assert write_programs(graph, tmp_path, precision="int8")


def test_a_program_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    """When it is written: the device that compares its answer with the recorded one would be told that it computes wrongly."""
    model = t5(num_layers=1, num_decoder_layers=1)
    with torch.no_grad():
        model.encoder.block[0].layer[1].DenseReluDense.wo.weight.fill_(3e38)
    with pytest.raises(CheckpointError, match="expected a program that answers in numbers, found NaN or infinity"):
        write_programs(author(model, ONE_BUCKET), tmp_path, precision="fp32")


def test_the_same_model_gives_the_same_bytes(graph: EncoderDecoder, write: Callable[[str], Path], tmp_path: Path) -> None:
    """So that a bundle's hashes tell whether anything has changed."""
    (again,) = write_programs(author(t5(), graph.reach), tmp_path, precision="int8")
    assert again.read_bytes() == write("int8").read_bytes()


def test_nothing_is_said_while_programs_are_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What ``export`` prints is its own."""
    write_programs(author(bart(), ONE_BUCKET), tmp_path, precision="int8")
    assert capfd.readouterr().out == ""


def test_what_is_too_long_is_refused(graph: EncoderDecoder, write: Callable[[str], Path]) -> None:
    """Shapes are fixed: a longer source or answer needs another variant."""
    runtime = open_program(graph, write("fp32"))
    with pytest.raises(InputTooLongError, match="expected at most 48 source tokens, found 49"):
        runtime.encode(np.ones((1, 49), np.int64), np.ones((1, 49), np.int64))
    memory = runtime.encode(SOURCE[:1], MASK[:1])
    full = runtime.step(np.ones((1, 32), np.int64), memory, runtime.start(1)).cache
    with pytest.raises(InputTooLongError, match="expected at most 32 tokens of an answer, found more; lower max_new_tokens"):
        runtime.step(np.ones((1, 1), np.int64), memory, full)


def test_a_model_beyond_the_format_is_refused(graph: EncoderDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what can hold it."""
    monkeypatch.setattr(tflite_programs, "LARGEST_BYTES", 8_000)
    with pytest.raises(CheckpointError, match="tflite holds models of up to .* export it for onnx"):
        write_programs(graph, tmp_path, precision="fp32")


@pytest.mark.parametrize(
    ("longest", "lengths"),
    [(16, (16,)), (32, (32,)), (48, (32, 48)), (64, (32, 64)), (144, (32, 64, 144)), (224, (32, 64, 128, 224))],
)
def test_lengths_double(longest: int, lengths: tuple[int, ...]) -> None:
    """Up to the longest input of the template, without two that are nearly the same."""
    assert source_lengths(longest) == lengths

"""The two ONNX programs of a variant: ``encode`` and ``step``."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from onnx import TensorProto
from torch import nn

from pocketseq_export.graphs.model import EncoderDecoder
from pocketseq_export.graphs.stacks import DecoderLayer, EncoderLayer
from pocketseq_export.onnx.attention import write_cross_attention, write_positions, write_relative_bias, write_self_attention
from pocketseq_export.onnx.builder import GraphBuilder, WeightFile
from pocketseq_export.onnx.layers import LayerWriter, NormPart, Sublayer
from pocketseq_export.onnx.operators import PRECISIONS

ENCODE: Final = "encode.onnx"
STEP: Final = "step.onnx"
WEIGHTS: Final = "weights.bin"


def write_programs(model: EncoderDecoder, directory: Path, *, precision: str, keep: Collection[str] = ()) -> tuple[Path, ...]:
    """Write a variant's graphs and the one file of weights that they share.

    Args:
        model: See ``author``.
        directory: The runtime's folder of a bundle, which exists; the files go into a folder of the precision's name.
        precision: One of ``PRECISIONS``.
        keep: Linear layers of the model that are written in the precision's higher one.

    Returns:
        The files.

    Raises:
        CheckpointError: weights that the precision cannot hold.
    """
    written = PRECISIONS[precision].keeping(keep, tied_output=model.spec.tied_output)
    weights = WeightFile(WEIGHTS)
    encode, step = GraphBuilder("encode", weights), GraphBuilder("step", weights)
    write_encode(LayerWriter(encode, written.encode, model.spec), model)
    write_step(LayerWriter(step, written.step, model.spec), model)
    directory = directory / precision
    directory.mkdir()
    weights.write(directory)
    encode.write(directory / ENCODE)
    step.write(directory / STEP)
    return directory / ENCODE, directory / STEP, directory / WEIGHTS


def write_encode(writer: LayerWriter, model: EncoderDecoder) -> None:
    """Write the encoder: source tokens → keys and values of every decoder layer's cross-attention, and the pooled state."""
    graph, encoder, decoder = writer.graph, model.encoder, model.spec.decoder
    ids = graph.input("input_ids", np.int64, ["B", "S"])
    attention_mask = graph.input("attention_mask", np.int64, ["B", "S"])
    mask = graph.op("Cast", attention_mask, to=TensorProto.INT32)
    positions = write_positions(graph, graph.scalar(0, np.int64), graph.length(ids, 1))
    bias = None
    if encoder.bias is not None:
        bias = write_relative_bias(graph, "encoder.bias", encoder.bias, queries=positions, keys=positions)
    x = writer.embed(ids, positions, "encoder.embedding", encoder.embedding)
    sublayers: list[Sublayer] = []
    for index, layer in enumerate(encoder.layers):
        assert isinstance(layer, EncoderLayer)
        name = f"encoder.layers.{index}"
        attention = partial(
            write_self_attention, writer=writer, name=f"{name}.attention", module=layer.attention, mask=mask, bias=bias
        )
        feed_forward = partial(writer.feed_forward, name=f"{name}.ffn", module=layer.ffn)
        sublayers += [
            Sublayer(NormPart(f"{name}.attention_norm", layer.attention_norm), attention),
            Sublayer(NormPart(f"{name}.ffn_norm", layer.ffn_norm), feed_forward),
        ]
    states = writer.residual(x, sublayers, final_norm("encoder.norm", encoder.norm))
    cross = writer.linear(states, "encoder.cross_key_value", encoder.cross_key_value)
    heads = graph.op("Reshape", cross, graph.constant(0, 0, -1, decoder.head_dim))
    names = [name for layer in range(decoder.layers) for name in cross_names(layer)]
    graph.split(graph.op("Transpose", heads, perm=[0, 2, 1, 3]), len(names), axis=1, names=names)
    for name in names:
        graph.output(name, ["B", decoder.heads, "S", decoder.head_dim])
    write_pooled(graph, states, attention_mask)
    graph.output("pooled", ["B", model.spec.d_model])


def write_pooled(graph: GraphBuilder, states: str, attention_mask: str) -> None:
    """Write the mean of the states over the tokens that are not padding."""
    weight = graph.op("Cast", attention_mask, to=TensorProto.FLOAT)
    total = graph.op("MatMul", graph.op("Unsqueeze", weight, graph.constant(1)), states)
    count = graph.op("ReduceSum", weight, graph.constant(1), keepdims=1)
    graph.op("Div", graph.op("Squeeze", total, graph.constant(1)), count, name="pooled")


def write_step(writer: LayerWriter, model: EncoderDecoder) -> None:
    """Write the decoder: a chunk of target tokens → log-probabilities of what may follow each, and the new keys and values."""
    graph, decoder, stack = writer.graph, model.decoder, model.spec.decoder
    ids = graph.input("token_ids", np.int64, ["B", "Q"])
    position = graph.input("position", np.int64, [1])
    mask = graph.op("Cast", graph.input("attention_mask", np.int64, ["B", "S"]), to=TensorProto.INT32)
    for number in range(stack.layers):
        for name in cross_names(number):
            graph.input(name, np.float32, ["B", stack.heads, "S", stack.head_dim])
        for name in self_names(number):
            graph.input(name, np.float32, ["B", stack.heads, "P", stack.head_dim])
    start = graph.op("Squeeze", position, graph.constant(0))
    end = graph.op("Add", start, graph.length(ids, 1))
    queries = write_positions(graph, start, end)
    bias = None
    if decoder.bias is not None:
        keys = write_positions(graph, graph.scalar(0, np.int64), end)
        bias = write_relative_bias(graph, "decoder.bias", decoder.bias, queries=queries, keys=keys)
    x = writer.embed(ids, queries, "decoder.embedding", decoder.embedding)
    sublayers: list[Sublayer] = []
    for index, layer in enumerate(decoder.layers):
        assert isinstance(layer, DecoderLayer)
        name = f"decoder.layers.{index}"
        attention = partial(
            write_self_attention,
            writer=writer,
            name=f"{name}.attention",
            module=layer.attention,
            bias=bias,
            past=self_names(index),
            new=new_names(index),
        )
        cross = partial(
            write_cross_attention, writer=writer, name=f"{name}.cross", module=layer.cross, mask=mask, memory=cross_names(index)
        )
        feed_forward = partial(writer.feed_forward, name=f"{name}.ffn", module=layer.ffn)
        sublayers += [
            Sublayer(NormPart(f"{name}.attention_norm", layer.attention_norm), attention),
            Sublayer(NormPart(f"{name}.cross_norm", layer.cross_norm), cross),
            Sublayer(NormPart(f"{name}.ffn_norm", layer.ffn_norm), feed_forward),
        ]
    states = writer.residual(x, sublayers, final_norm("decoder.norm", decoder.norm), model.spec.logit_scale)
    graph.op("LogSoftmax", writer.linear(states, "output", model.output), name="logprobs", axis=-1)
    graph.output("logprobs", ["B", "Q", model.spec.vocab_size])
    for number in range(stack.layers):
        for name in new_names(number):
            graph.output(name, ["B", stack.heads, "Q", stack.head_dim])


def final_norm(name: str, module: nn.Module | None) -> NormPart | None:
    """The norm after the last layer, where there is one."""
    return None if module is None else NormPart(name, module)


def cross_names(layer: int) -> tuple[str, str]:
    """Keys and values of the source."""
    return f"cross_key_{layer}", f"cross_value_{layer}"


def self_names(layer: int) -> tuple[str, str]:
    """Keys and values of the tokens before."""
    return f"self_key_{layer}", f"self_value_{layer}"


def new_names(layer: int) -> tuple[str, str]:
    """Keys and values of the new tokens."""
    return f"new_key_{layer}", f"new_value_{layer}"

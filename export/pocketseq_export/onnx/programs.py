"""The ONNX programs of a variant: ``encode`` and ``step``, and with them the loops ``greedy`` and ``beams``."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from onnx import TensorProto

from pocketseq_export.graphs.model import EncoderDecoder
from pocketseq_export.graphs.stacks import EncoderLayer
from pocketseq_export.onnx.attention import Grouping, write_positions, write_relative_bias, write_self_attention
from pocketseq_export.onnx.beams import write_beams
from pocketseq_export.onnx.builder import GraphBuilder, WeightFile
from pocketseq_export.onnx.decoder import cross_names, self_names, write_decoder, write_memory
from pocketseq_export.onnx.greedy import write_greedy
from pocketseq_export.onnx.layers import LayerWriter, NormPart, Sublayer, final_norm
from pocketseq_export.onnx.operators import PRECISIONS

ENCODE: Final = "encode.onnx"
STEP: Final = "step.onnx"
GREEDY: Final = "greedy.onnx"
BEAMS: Final = "beams.onnx"
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
    encode, step, greedy, beams = (GraphBuilder(name, weights) for name in ("encode", "step", "greedy", "beams"))
    write_encode(LayerWriter(encode, written.encode, model.spec, many_tokens=True), model)
    write_step(LayerWriter(step, written.step, model.spec, many_tokens=True), model)
    write_greedy(LayerWriter(greedy, written.step, model.spec), model)
    write_beams(LayerWriter(beams, written.step, model.spec), model)
    directory = directory / precision
    directory.mkdir()
    weights.write(directory)
    programs = {directory / ENCODE: encode, directory / STEP: step, directory / GREEDY: greedy, directory / BEAMS: beams}
    for path, graph in programs.items():
        graph.write(path)
    return (*programs, directory / WEIGHTS)


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
    """Write the decoder: a chunk of target tokens → log-probabilities of what may follow each, and the cache with them in it.

    Rows may be several to a source, as many to each, those of one side by side: beams read its keys and values where they are.
    """
    graph, decoder, stack = writer.graph, model.decoder, model.spec.decoder
    ids = graph.input("token_ids", np.int64, ["B", "Q"])
    position = graph.input("position", np.int64, [1])
    mask = write_memory(graph, model.spec, sources="N")
    grouping = Grouping(
        sources=graph.op("Concat", graph.op("Shape", mask, end=1), graph.constant(-1, stack.inner_dim), axis=0),
        rows=graph.op("Concat", graph.op("Shape", ids), graph.constant(stack.inner_dim), axis=0),
    )
    start = graph.op("Squeeze", position, graph.constant(0))
    end = graph.op("Add", start, graph.length(ids, 1))
    queries = write_positions(graph, start, end)
    bias = None
    if decoder.bias is not None:
        keys = write_positions(graph, graph.scalar(0, np.int64), end)
        bias = write_relative_bias(graph, "decoder.bias", decoder.bias, queries=queries, keys=keys)
    scores = write_decoder(writer, model, ids, positions=queries, mask=mask, bias=bias, grouping=grouping)
    graph.op("LogSoftmax", scores, name="logprobs", axis=-1)
    graph.output("logprobs", ["B", "Q", model.spec.vocab_size])
    for number in range(stack.layers):
        for name in self_names(number, "present"):
            graph.output(name, ["B", stack.heads, "T", stack.head_dim])

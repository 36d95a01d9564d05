"""Many steps in one call: the decoder as the body of a loop that feeds itself the likeliest token."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from pocketseq_export.graphs.model import EncoderDecoder
from pocketseq_export.onnx.attention import write_relative_bias
from pocketseq_export.onnx.builder import GraphBuilder
from pocketseq_export.onnx.decoder import self_names, write_decoder, write_memory
from pocketseq_export.onnx.layers import LayerWriter


def write_greedy(writer: LayerWriter, model: EncoderDecoder) -> None:
    """Write the loop: last token of each row → the likeliest tokens after it, until every row has met the end token.

    Nothing but the chosen tokens, their log-probabilities and the cache leaves the loop: between two tokens no value crosses into
    another language, and only one row of scores is alive.
    """
    graph, stack = writer.graph, model.spec.decoder
    ids = graph.input("token_ids", np.int64, ["B", 1])
    position = graph.input("position", np.int64, [1])
    limit = graph.input("limit", np.int64, [1])
    end = graph.input("end_id", np.int64, [1])
    mask = write_memory(graph, model.spec)
    last = graph.op("Sub", limit, graph.constant(1))
    bias = write_last_bias(graph, model, position, limit)
    running = graph.op("Equal", ids, ids)
    past = [name for number in range(stack.layers) for name in self_names(number)]

    body = LayerWriter(graph.body("body"), writer.operators, model.spec)
    _write_round(body, model, position=position, mask=mask, bias=bias, last=last, end=end)

    present = [name for number in range(stack.layers) for name in self_names(number, "present")]
    names = ["last_ids", "running", *present, "gathered_ids", "gathered_logprobs"]
    rounds = graph.op("Squeeze", limit, graph.constant(0))
    graph.loop(body.graph, ids, running, *past, limit=rounds, names=names)
    graph.op("Transpose", graph.op("Squeeze", "gathered_ids", graph.constant(2)), name="ids", perm=[1, 0])
    graph.op("Transpose", graph.op("Squeeze", "gathered_logprobs", graph.constant(2)), name="logprobs", perm=[1, 0])
    graph.output("ids", ["B", "N"], np.int64)
    graph.output("logprobs", ["B", "N"])
    for name in present:
        graph.output(name, ["B", stack.heads, "T", stack.head_dim])


def write_last_bias(graph: GraphBuilder, model: EncoderDecoder, position: str, limit: str) -> str | None:
    """Write the bias of the last token that a loop may reach; that of the tokens before is the end of it.

    Args:
        graph: The graph around the loop.
        model: See ``author``.
        position: Of the first token, int64 [1].
        limit: Rounds at most, int64 [1].

    Returns:
        float32 [1, heads, 1, key]; None where the family has none.
    """
    if model.decoder.bias is None:
        return None
    first = graph.op("Squeeze", graph.op("Sub", graph.constant(1), graph.op("Add", position, limit)), graph.constant(0))
    keys = graph.op("Range", first, graph.scalar(1, np.int64), graph.scalar(1, np.int64))
    return write_relative_bias(graph, "decoder.bias", model.decoder.bias, queries=graph.constant(0), keys=keys)


def cut_bias(graph: GraphBuilder, bias: str, *, last: str, number: str) -> str:
    """Cut out the bias of one round's token.

    Args:
        graph: The body of the loop.
        bias: What ``write_last_bias`` gave.
        last: Number of the last round, int64 [1].
        number: Of this round, int64.
    """
    return graph.op("Slice", bias, graph.op("Sub", last, number), graph.constant(np.iinfo(np.int64).max), graph.constant(3))


def _write_round(
    writer: LayerWriter, model: EncoderDecoder, *, position: str, mask: str, bias: str | None, last: str, end: str
) -> None:
    """Write the body of the loop."""
    graph, stack = writer.graph, model.spec.decoder
    number = graph.input("round", np.int64, [])
    graph.input("condition", np.bool_, [])
    ids = graph.input("round_ids", np.int64, ["B", 1])
    running = graph.input("round_running", np.bool_, ["B", 1])
    for layer in range(stack.layers):
        for name in self_names(layer, "round"):
            graph.input(name, np.float32, ["B", stack.heads, "R", stack.head_dim])
    if bias is not None:
        bias = cut_bias(graph, bias, last=last, number=number)
    positions = graph.op("Add", position, number)
    scores = write_decoder(writer, model, ids, positions=positions, mask=mask, bias=bias, past="round", present="grown")
    # The best of one row of log-probabilities, and where it stands.
    logprobs = graph.op("LogSoftmax", scores, axis=-1)
    best, where = graph.ops("TopK", logprobs, graph.constant(1), names=("best", "where"), axis=-1)
    graph.op("Squeeze", where, graph.constant(2), name="next_ids")
    graph.op("Squeeze", best, graph.constant(2), name="next_logprobs")
    graph.op("And", running, graph.op("Not", graph.op("Equal", "next_ids", end)), name="next_running")
    any_left = graph.op("ReduceMax", graph.op("Cast", "next_running", to=TensorProto.INT32), keepdims=0)
    graph.op("Cast", any_left, name="go_on", to=TensorProto.BOOL)
    graph.output("go_on", [], np.bool_)
    graph.output("next_ids", ["B", 1], np.int64)
    graph.output("next_running", ["B", 1], np.bool_)
    for layer in range(stack.layers):
        for name in self_names(layer, "grown"):
            graph.output(name, ["B", stack.heads, "G", stack.head_dim])
    # A name can stand for one output only, and the tokens are carried and gathered.
    graph.op("Identity", "next_ids", name="said_ids")
    graph.output("said_ids", ["B", 1], np.int64)
    graph.output("next_logprobs", ["B", 1])

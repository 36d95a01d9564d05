"""A whole beam search in one call: the decoder as the body of a loop that follows its likeliest beginnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pocketseq_export.graphs.model import EncoderDecoder
from pocketseq_export.onnx.attention import Grouping
from pocketseq_export.onnx.builder import GraphBuilder
from pocketseq_export.onnx.decoder import self_names, write_decoder, write_memory
from pocketseq_export.onnx.greedy import cut_bias, write_last_bias
from pocketseq_export.onnx.layers import LayerWriter


def write_beams(writer: LayerWriter, model: EncoderDecoder) -> None:
    """Write the loop: last token of one source's prompt → the candidates of every round, until no open beam can be an answer.

    What leaves the loop is what its caller needs to trace the answers back: the likeliest candidates of every round, twice as many
    as there are beams, and the spread of the distributions that they come from. Those that are not the end token are followed, as
    many as there are beams; an end token in the better half is an answer. The loop ends when there are as many answers as beams and
    the best open beam, by its reach, is no better than the worst of them (a reach of 0 ends it at once); or when, by its bound, it
    is no better than any of the answers that are wanted.
    """
    graph, stack = writer.graph, model.spec.decoder
    ids = graph.input("token_ids", np.int64, [1, 1])
    position = graph.input("position", np.int64, [1])
    limit = graph.input("limit", np.int64, [1])
    end = graph.input("end_id", np.int64, [1])
    count = graph.input("count", np.int64, [1])
    wanted = graph.input("answers", np.int64, [1])
    divisors = [graph.input(name, np.float32, ["N"]) for name in ("lengths", "reaches", "bounds")]
    mask = write_memory(graph, model.spec)
    bias = write_last_bias(graph, model, position, limit)
    nothing = graph.op("Expand", graph.scalar(-np.inf), count)
    past = [name for number in range(stack.layers) for name in self_names(number)]

    body = LayerWriter(graph.body("body"), writer.operators, model.spec)
    last = graph.op("Sub", limit, graph.constant(1))
    search = _Search(count=count, wanted=graph.op("Sub", wanted, graph.constant(1)), divisors=divisors)
    _write_round(body, model, position=position, mask=mask, bias=bias, last=last, end=end, search=search)

    carried = [ids, graph.vector(0.0), nothing, *past]
    left = [f"left_{number}" for number in range(len(carried))]
    rounds = graph.op("Squeeze", limit, graph.constant(0))
    graph.loop(body.graph, *carried, limit=rounds, names=[*left, "places", "totals", "logprobs", "entropies", "gaps"])
    graph.output("places", ["R", "C"], np.int64)
    graph.output("totals", ["R", "C"])
    graph.output("logprobs", ["R", "C"])
    graph.output("entropies", ["R", "C"])
    graph.output("gaps", ["R", "C"])


@dataclass(frozen=True, slots=True)
class _Search:
    """How a search is led."""

    count: str
    """Beams, int64 [1]."""
    wanted: str
    """Place of the last answer that is wanted, int64 [1]."""
    divisors: Sequence[str]
    """Lengths, reaches and bounds of every round, float32 [rounds]."""


def _write_round(
    writer: LayerWriter,
    model: EncoderDecoder,
    *,
    position: str,
    mask: str,
    bias: str | None,
    last: str,
    end: str,
    search: _Search,
) -> None:
    """Write the body of the loop."""
    graph, stack, vocabulary, count = writer.graph, model.spec.decoder, model.spec.vocab_size, search.count
    number = graph.input("round", np.int64, [])
    graph.input("condition", np.bool_, [])
    ids = graph.input("round_ids", np.int64, ["B", 1])
    totals = graph.input("round_totals", np.float32, ["B"])
    answers = graph.input("round_answers", np.float32, ["A"])
    for layer in range(stack.layers):
        for name in self_names(layer, "round"):
            graph.input(name, np.float32, ["B", stack.heads, "R", stack.head_dim])
    # All beams read one source, so that they are tokens of one row there.
    grouping = Grouping(
        sources=graph.constant(1, -1, stack.inner_dim),
        rows=graph.constant(-1, 1, stack.inner_dim),
    )
    scores = write_decoder(
        writer,
        model,
        ids,
        positions=graph.op("Add", position, number),
        mask=mask,
        bias=None if bias is None else cut_bias(graph, bias, last=last, number=number),
        past="round",
        present="grown",
        grouping=grouping,
    )
    logprobs = graph.op("Reshape", graph.op("LogSoftmax", scores, axis=-1), graph.constant(-1, vocabulary))
    flat = graph.constant(-1)
    extended = graph.op("Reshape", graph.op("Add", logprobs, graph.op("Unsqueeze", totals, graph.constant(1))), flat)
    graph.ops("TopK", extended, graph.op("Add", count, count), names=("said_totals", "said_places"), axis=0)
    graph.op("Gather", graph.op("Reshape", logprobs, flat), "said_places", name="said_logprobs")
    size = graph.scalar(vocabulary, np.int64)
    tokens, beams = graph.op("Mod", "said_places", size), graph.op("Div", "said_places", size)
    for found, name in zip(_write_spread(graph, logprobs), ("said_entropies", "said_gaps"), strict=True):
        graph.op("Gather", found, beams, name=name)
    ends = graph.op("Equal", tokens, end)
    impossible = graph.scalar(-np.inf)

    followed = graph.op("Where", ends, impossible, "said_totals")
    _, ranks = graph.ops("TopK", followed, count, names=("next_totals", "ranks"), axis=0)
    graph.op("Unsqueeze", graph.op("Gather", tokens, ranks), graph.constant(1), name="next_ids")
    parents = graph.op("Gather", beams, ranks)
    for layer in range(stack.layers):
        for grown, kept in zip(self_names(layer, "grown"), self_names(layer, "next"), strict=True):
            graph.op("Gather", grown, parents, name=kept, axis=0)

    length, reach, bound = (graph.op("Gather", divisor, number) for divisor in search.divisors)
    scored = graph.op("Div", graph.op("Where", ends, "said_totals", impossible), length)
    added = graph.op("Slice", scored, graph.constant(0), count)
    graph.ops("TopK", graph.op("Concat", answers, added, axis=0), count, names=("next_answers", "answer_ranks"), axis=0)
    worst = graph.op("Gather", "next_answers", graph.scalar(-1, np.int64))
    best = graph.op("Gather", "next_totals", graph.scalar(0, np.int64))
    better = graph.op("Or", graph.op("IsInf", worst), graph.op("Greater", graph.op("Div", best, reach), worst))
    settled = graph.op("Squeeze", graph.op("Gather", "next_answers", search.wanted), graph.constant(0))
    graph.op("And", better, graph.op("Greater", graph.op("Div", best, bound), settled), name="go_on")

    graph.output("go_on", [], np.bool_)
    graph.output("next_ids", ["B", 1], np.int64)
    graph.output("next_totals", ["B"])
    graph.output("next_answers", ["A"])
    for layer in range(stack.layers):
        for name in self_names(layer, "next"):
            graph.output(name, ["B", stack.heads, "G", stack.head_dim])
    graph.output("said_places", ["C"], np.int64)
    graph.output("said_totals", ["C"])
    graph.output("said_logprobs", ["C"])
    graph.output("said_entropies", ["C"])
    graph.output("said_gaps", ["C"])


def _write_spread(graph: GraphBuilder, logprobs: str) -> tuple[str, str]:
    """Write entropy and gap of each row of ``logprobs``, float32 [rows] each: what a confidence may look at.

    Here they cost a few small nodes; to find them afterwards the decoder would have to read the answer again.
    """
    best, _ = graph.ops("TopK", logprobs, graph.constant(2), names=("best_two", "places_of_two"), axis=-1)
    bounded = graph.op("Max", logprobs, graph.scalar(-1e4))  # 0 · −∞ would be no number
    certainty = graph.op("ReduceSum", graph.op("Mul", graph.op("Exp", logprobs), bounded), graph.constant(1), keepdims=0)
    return graph.op("Neg", certainty), graph.op("MatMul", best, graph.vector(1.0, -1.0))

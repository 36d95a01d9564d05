"""Attention as ONNX Runtime's fused operator, and the biases and masks that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from pocketseq_export.graphs.positions import RelativeBias
from pocketseq_export.graphs.sublayers import CrossAttention, SelfAttention
from pocketseq_export.onnx.builder import GraphBuilder
from pocketseq_export.onnx.layers import LayerWriter, floats

MASKED: Final = -1e9
"""Score of a key that must not be seen."""


def write_positions(graph: GraphBuilder, start: str, stop: str) -> str:
    """Positions from start (inclusive) to stop (exclusive), both int64 numbers → int64 [stop − start]."""
    return graph.op("Range", start, stop, graph.scalar(1, np.int64))


def write_relative_bias(graph: GraphBuilder, name: str, bias: RelativeBias, *, queries: str, keys: str) -> str:
    """Look up the bias of every pair of positions: int64 [query], int64 [key] → float32 [1, heads, query, key]."""
    distance = graph.op("Sub", keys, graph.op("Unsqueeze", queries, graph.constant(1)))
    limit = bias.max_distance
    near = graph.op("Clip", distance, graph.scalar(-limit, np.int64), graph.scalar(limit, np.int64))
    # Distance 0 first: a negative index counts from the end, so that a distance is its own row number.
    table = floats(torch.roll(bias.table, -limit, dims=0))[:, None, :]
    rows = graph.op("Gather", graph.weight(f"{name}.table", table), near)
    return graph.op("Transpose", rows, perm=[2, 3, 0, 1])


def write_self_attention(
    x: str,
    *,
    writer: LayerWriter,
    name: str,
    module: SelfAttention,
    mask: str | None = None,
    bias: str | None = None,
    past: tuple[str, str] | None = None,
    present: tuple[str, str] | None = None,
) -> str:
    """Write attention of a sequence over itself.

    Args:
        x: float32 [batch, query, d_model].
        writer: Of the graph.
        name: Prefix of the weights' names.
        module: The attention.
        mask: int32 [batch, key], in the encoder.
        bias: float32 [1, heads, query, key].
        past: Keys and values of the tokens before, in the decoder; attention is then causal.
        present: Names of the outputs that hold keys and values of all tokens, [batch, heads, key, head_dim].
    """
    graph = writer.graph
    query, key, value = graph.split(writer.linear(x, f"{name}.query_key_value", module.query_key_value), 3, axis=-1)
    y = f"{name}.attended"
    graph.ops(
        "MultiHeadAttention",
        *(query, key, value, None, mask, bias, *(past or ())),
        names=(y, *(present or ())),
        num_heads=module.heads,
        scale=module.scale,
        mask_filter_value=MASKED,
        unidirectional=1 if past else 0,
    )
    return writer.linear(y, f"{name}.output", module.output)


@dataclass(frozen=True, slots=True)
class Grouping:
    """How rows that read the same source are laid side by side, so that its keys and values are there once."""

    sources: str
    """Shape of the rows by source, int64 [3]: sources, tokens of all rows of a source, d_model."""
    rows: str
    """Shape of the rows as they are, int64 [3]: batch, query, d_model."""


def write_cross_attention(
    x: str,
    *,
    writer: LayerWriter,
    name: str,
    module: CrossAttention,
    mask: str,
    memory: tuple[str, str],
    grouping: Grouping | None = None,
) -> str:
    """Write attention over the source.

    Args:
        x: float32 [batch, query, d_model].
        writer: Of the graph.
        name: Prefix of the weights' names.
        module: The attention.
        mask: int32 [sources, source].
        memory: Names of keys and values of the source, [sources, heads, source, head_dim].
        grouping: Of the batch by sources; None where every row has a source of its own.
    """
    query = writer.linear(x, f"{name}.query", module.query)
    if grouping is not None:  # nothing is causal here, so that other rows are as good as other tokens
        query = writer.graph.op("Reshape", query, grouping.sources)
    y = writer.graph.op(
        "MultiHeadAttention",
        *(query, *memory, None, mask),
        num_heads=module.heads,
        scale=module.scale,
        mask_filter_value=MASKED,
    )
    if grouping is not None:
        y = writer.graph.op("Reshape", y, grouping.rows)
    return writer.linear(y, f"{name}.output", module.output)

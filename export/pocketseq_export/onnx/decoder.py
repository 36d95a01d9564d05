"""The decoder in ONNX: what ``step`` and ``greedy`` have in common."""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx import TensorProto

from pocketseq_export.graphs.model import EncoderDecoder
from pocketseq_export.graphs.spec import GraphSpec
from pocketseq_export.graphs.stacks import DecoderLayer
from pocketseq_export.onnx.attention import Grouping, write_cross_attention, write_self_attention
from pocketseq_export.onnx.builder import GraphBuilder
from pocketseq_export.onnx.layers import LayerWriter, NormPart, Sublayer, final_norm


def write_memory(graph: GraphBuilder, spec: GraphSpec, *, sources: str = "B") -> str:
    """Declare what the encoder gave, and what is in the cache, as inputs.

    Args:
        graph: Where they go.
        spec: Of the model.
        sources: The axis of the encoder's rows, where it is not that of the decoder's.

    Returns:
        The source's mask, int32 [sources, source].
    """
    stack = spec.decoder
    mask = graph.op("Cast", graph.input("attention_mask", np.int64, [sources, "S"]), to=TensorProto.INT32)
    for number in range(stack.layers):
        for name in cross_names(number):
            graph.input(name, np.float32, [sources, stack.heads, "S", stack.head_dim])
        for name in self_names(number):
            graph.input(name, np.float32, ["B", stack.heads, "P", stack.head_dim])
    return mask


def write_decoder(
    writer: LayerWriter,
    model: EncoderDecoder,
    ids: str,
    *,
    positions: str,
    mask: str,
    bias: str | None,
    past: str = "self",
    present: str = "present",
    grouping: Grouping | None = None,
) -> str:
    """Write the layers of the decoder and its output.

    Args:
        writer: Of the graph.
        model: See ``author``.
        ids: int64 [batch, query], causal among themselves.
        positions: int64 [query].
        mask: int32 [sources, source].
        bias: float32 [1, heads, query, key], where the family has one.
        past: What the names of the keys and values of the tokens before begin with.
        present: The same for outputs that hold those of all tokens.
        grouping: See ``write_cross_attention``.

    Returns:
        The scores, float32 [batch, query, vocab].
    """
    decoder = model.decoder
    x = writer.embed(ids, positions, "decoder.embedding", decoder.embedding)
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
            past=self_names(index, past),
            present=self_names(index, present),
        )
        cross = partial(
            write_cross_attention,
            writer=writer,
            name=f"{name}.cross",
            module=layer.cross,
            mask=mask,
            memory=cross_names(index),
            grouping=grouping,
        )
        feed_forward = partial(writer.feed_forward, name=f"{name}.ffn", module=layer.ffn)
        sublayers += [
            Sublayer(NormPart(f"{name}.attention_norm", layer.attention_norm), attention),
            Sublayer(NormPart(f"{name}.cross_norm", layer.cross_norm), cross),
            Sublayer(NormPart(f"{name}.ffn_norm", layer.ffn_norm), feed_forward),
        ]
    states = writer.residual(x, sublayers, final_norm("decoder.norm", decoder.norm), model.spec.logit_scale)
    return writer.linear(states, "output", model.output)


def cross_names(layer: int) -> tuple[str, str]:
    """Keys and values of the source."""
    return f"cross_key_{layer}", f"cross_value_{layer}"


def self_names(layer: int, start: str = "self") -> tuple[str, str]:
    """Keys and values of target tokens: ``self`` before, ``present`` with these."""
    return f"{start}_key_{layer}", f"{start}_value_{layer}"

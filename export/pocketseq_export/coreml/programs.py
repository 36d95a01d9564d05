"""The two functions of a variant, and their way into a package."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, Final

from coremltools.converters.mil import Builder as mb  # noqa: N813 everybody's name for it

from pocketseq_export.coreml.builder import ProgramBuilder
from pocketseq_export.coreml.layers import LayerWriter, count_up, length_of
from pocketseq_export.coreml.package import write_package
from pocketseq_export.coreml.precisions import PRECISIONS
from pocketseq_export.graphs import EncoderDecoder, Reach
from pocketseq_export.graphs.stacks import DecoderLayer, EncoderLayer

SHORTEST: Final = 32
"""Least length to which a source is padded."""
LEAST: Final = Reach(source=512, target=256)
"""How far programs reach at least, unless the positions end before. The answer's cache has a fixed size, all of which every step
reads."""


def write_programs(model: EncoderDecoder, directory: Path, *, precision: str, keep: Collection[str] = ()) -> tuple[Path, ...]:
    """Write one package; nothing of it needs a Mac.

    Args:
        model: See ``author``.
        directory: The runtime's folder of a bundle, which exists; the package is named after the precision.
        precision: One of ``PRECISIONS``.
        keep: Names of linear layers of the model that are not quantized.

    Returns:
        The package's files.

    Raises:
        CheckpointError: weights beyond float16's reach in a precision that computes in it.
    """
    wanted = PRECISIONS[precision]
    builder = ProgramBuilder(model, wanted, keep=keep)
    write_encode(builder, model)
    write_step(builder, model)
    return write_package(builder.program, directory / f"{precision}.mlpackage", precision=wanted)


def write_encode(builder: ProgramBuilder, model: EncoderDecoder) -> None:
    """Write ``encode``: a source → keys and values of every decoder layer's cross-attention, and the pooled state."""
    spec, writer = model.spec, LayerWriter(builder, model.spec)
    lengths = source_lengths(model)
    shapes = {"ids": (1, lengths[0])}
    with builder.function("encode", ints=shapes, floats={}, lengths=("ids", 1, lengths)) as function:
        given = function.inputs["ids"]
        seen = builder.floats(mb.greater_equal(x=given, y=0))  # padding is −1, so that one input of varying shape is enough
        positions = count_up(length_of(given, 1))
        bias = writer.additive(seen, [1, 2])
        if model.encoder.bias is not None:
            bias = mb.add(x=bias, y=writer.relative_bias(model.encoder.bias, queries=positions, keys=positions))
        x = writer.embed(mb.maximum(x=given, y=0), positions, model.encoder.embedding)
        for layer in model.encoder.layers:
            assert isinstance(layer, EncoderLayer)
            attention = layer.attention

            def attend(x: Any, attention: Any = attention) -> Any:
                query, key, value = mb.split(x=writer.linear(x, attention.query_key_value), num_splits=3, axis=-1)
                parts = (writer.heads(part, attention.heads) for part in (query, key, value))
                return writer.linear(writer.attend(*parts, scale=attention.scale, bias=bias), attention.output)

            x = writer.residual(x, layer.attention_norm, attend)
            x = writer.residual(x, layer.ffn_norm, partial(writer.feed_forward, module=layer.ffn))
        if model.encoder.norm is not None:
            x = writer.norm(x, model.encoder.norm)
        stack = spec.decoder
        cross = writer.linear(x, model.encoder.cross_key_value)
        cross = mb.reshape(x=cross, shape=[-1, 2 * stack.layers, stack.heads, stack.head_dim])
        # The share of a token first, the sum then: a sum of many states could leave float16's reach.
        share = mb.real_div(x=seen, y=mb.reduce_sum(x=seen, axes=[-1], keep_dims=True))
        pooled = mb.squeeze(x=mb.matmul(x=mb.expand_dims(x=share, axes=[1]), y=x), axes=[1])
        function.set_outputs(
            [mb.transpose(x=cross, perm=[1, 2, 0, 3], name="cross"), mb.cast(x=pooled, dtype="fp32", name="pooled")]
        )


def write_step(builder: ProgramBuilder, model: EncoderDecoder) -> None:
    """Write ``step``: one token → raw logits, the logarithm of the sum of their exponentials, and its own keys and values.

    The log-probability of a token is its logit less that logarithm, both in float32: a log-softmax in float16 is far off for
    what is unlikely.
    """
    spec, writer = model.spec, LayerWriter(builder, model.spec)
    stack, lengths = spec.decoder, source_lengths(model)
    cache_shape = (2 * stack.layers, stack.heads, reach_of(model).target, stack.head_dim)
    floats = {"cross": (2 * stack.layers, stack.heads, lengths[0], stack.head_dim), "source_mask": (1, 1, 1, lengths[-1])}
    stateful = builder.precision.stateful
    with builder.function(
        "step",
        ints={"token": (1, 1), "position": (1,)},
        floats=floats if stateful else {**floats, "cache": cache_shape},
        states={"cache": cache_shape} if stateful else None,
        lengths=("cross", 2, lengths),
    ) as function:
        given = function.inputs
        position, places = given["position"], builder.places(cache_shape[2])
        cross = mb.split(x=given["cross"], num_splits=2 * stack.layers, axis=0)
        length = length_of(given["cross"], 2)
        source = mb.slice_by_size(x=given["source_mask"], begin=[0, 0, 0, 0], size=mb.concat(values=[1, 1, 1, length], axis=0))
        cache = mb.read_state(input=given["cache"]) if stateful else given["cache"]
        before = mb.split(x=cache, num_splits=2 * stack.layers, axis=0)
        bias = writer.additive(mb.less_equal(x=places, y=position), [0, 1, 2])
        if model.decoder.bias is not None:
            bias = mb.add(x=bias, y=writer.relative_bias(model.decoder.bias, queries=position, keys=places))
        here = mb.expand_dims(x=mb.equal(x=places, y=position), axes=[0, 1, 3])
        new: list[Any] = []
        after: list[Any] = []
        x = writer.embed(given["token"], position, model.decoder.embedding)
        for index, layer in enumerate(model.decoder.layers):
            assert isinstance(layer, DecoderLayer)
            rows = slice(2 * index, 2 * index + 2)

            def attend(x: Any, attention: Any = layer.attention, rows: slice = rows) -> Any:
                parts = mb.split(x=writer.linear(x, attention.query_key_value), num_splits=3, axis=-1)
                query, *own = (writer.heads(part, attention.heads) for part in parts)
                grown = [mb.select(cond=here, a=column, b=old) for column, old in zip(own, before[rows], strict=True)]
                new.extend(own)
                after.extend(grown)
                return writer.linear(writer.attend(query, *grown, scale=attention.scale, bias=bias), attention.output)

            def attend_source(x: Any, attention: Any = layer.cross, rows: slice = rows) -> Any:
                query = writer.heads(writer.linear(x, attention.query), attention.heads)
                return writer.linear(writer.attend(query, *cross[rows], scale=attention.scale, bias=source), attention.output)

            x = writer.residual(x, layer.attention_norm, attend)
            x = writer.residual(x, layer.cross_norm, attend_source)
            x = writer.residual(x, layer.ffn_norm, partial(writer.feed_forward, module=layer.ffn))
        if model.decoder.norm is not None:
            x = writer.norm(x, model.decoder.norm)
        if spec.logit_scale != 1.0:
            x = mb.mul(x=x, y=builder.number(spec.logit_scale))
        if stateful:
            mb.coreml_update_state(state=given["cache"], value=mb.concat(values=after, axis=0))
        logits = mb.cast(x=writer.linear(x, model.output), dtype="fp32", name="logits")
        total = mb.reduce_log_sum_exp(x=logits, axes=[-1], keep_dims=True, name="logsumexp")
        function.set_outputs([logits, total, mb.concat(values=new, axis=0, name="new")])


def source_lengths(model: EncoderDecoder) -> tuple[int, ...]:
    """Lengths that a source is padded to, doubled from one to the next: Core ML prepares a program for each of a few shapes, and is
    slow at any shape.
    """
    longest = reach_of(model).source
    lengths = [SHORTEST]
    while lengths[-1] < longest:
        lengths.append(2 * lengths[-1])
    return (*lengths[:-1], longest)


def reach_of(model: EncoderDecoder) -> Reach:
    """Longest sequences: those of the model's template, or ``LEAST``, as far as the positions go."""
    source, target = max(LEAST.source, model.reach.source), max(LEAST.target, model.reach.target)
    return Reach(source, target).within(model.spec.max_positions)

"""Norms, projections, embeddings and attention as Core ML operators; one input at a time, so that batch is always 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from coremltools.converters.mil import Builder as mb  # noqa: N813 everybody's name for it
from torch import nn

from pocketseq_export.coreml.builder import ProgramBuilder
from pocketseq_export.graphs.positions import RelativeBias
from pocketseq_export.graphs.spec import Activation, GraphSpec
from pocketseq_export.graphs.stacks import Embedding
from pocketseq_export.graphs.sublayers import FeedForward

MASKED: Final = -1e4
"""Score of a key that must not be seen: within float16's reach, and the exponential of it is zero."""
SMALLEST_PEAK: Final = 1e-3
"""Divisor at least, where a state is all but zero."""


class LayerWriter:
    """Writes the parts that encoder and decoder have in common, into the function that is open."""

    def __init__(self, builder: ProgramBuilder, spec: GraphSpec) -> None:
        self.builder = builder
        self.spec = spec

    def linear(self, x: Any, module: nn.Linear) -> Any:
        """Write a projection."""
        bias = {} if module.bias is None else {"bias": self.builder.vector(module.bias)}
        return mb.linear(x=x, weight=self.builder.matrix(module.weight), **bias)

    def embed(self, ids: Any, positions: Any, module: Embedding) -> Any:
        """Token ids [1, sequence] at positions [sequence] → [1, sequence, d_model]."""
        x = self._rows(self.builder.matrix(module.tokens.weight), ids)
        if module.scale != 1.0:
            x = mb.mul(x=x, y=self.builder.number(module.scale))
        if module.positions is not None:
            x = mb.add(x=x, y=self._rows(self.builder.matrix(module.positions.weight), positions))
        return x if module.norm is None else self.norm(x, module.norm)

    def norm(self, x: Any, module: nn.Module) -> Any:
        """Write a norm over the width."""
        number, epsilon = self.builder.number, self.spec.norm_epsilon
        assert isinstance(module, nn.LayerNorm | nn.RMSNorm)
        gamma = self.builder.vector(module.weight)
        if isinstance(module, nn.LayerNorm):
            beta = self.builder.vector(module.bias)
            return mb.layer_norm(x=x, axes=[-1], gamma=gamma, beta=beta, epsilon=number(epsilon))
        # The square of a state beyond 255 is infinite in float16, so the largest magnitude is divided out first. The epsilon
        # is of the undivided square; as a square root it lies within float16's reach.
        peak = mb.reduce_max(x=mb.abs(x=x), axes=[-1], keep_dims=True)
        peak = mb.maximum(x=peak, y=number(SMALLEST_PEAK))
        scaled = mb.real_div(x=x, y=peak)
        floor = mb.square(x=mb.real_div(x=number(epsilon**0.5), y=peak))
        power = mb.add(x=mb.reduce_mean(x=mb.square(x=scaled), axes=[-1], keep_dims=True), y=floor)
        return mb.mul(x=mb.mul(x=scaled, y=mb.rsqrt(x=power, epsilon=number(0))), y=gamma)

    def residual(self, x: Any, norm: nn.Module, sublayer: Callable[[Any], Any]) -> Any:
        """Run one sublayer, add what it says, and norm where the family does."""
        if self.spec.norm_place == "pre":
            return mb.add(x=x, y=sublayer(self.norm(x, norm)))
        return self.norm(mb.add(x=x, y=sublayer(x)), norm)

    def heads(self, x: Any, heads: int) -> Any:
        """[1, sequence, heads × head_dim] → [1, heads, sequence, head_dim]."""
        return mb.transpose(x=mb.reshape(x=x, shape=[1, -1, heads, x.shape[-1] // heads]), perm=[0, 2, 1, 3])

    def attend(self, query: Any, key: Any, value: Any, *, scale: float, bias: Any) -> Any:
        """Attention of queries over keys; all are [1, heads, sequence, head_dim], the bias broadcasts to [1, heads, query, key]."""
        if scale != 1.0:
            query = mb.mul(x=query, y=self.builder.number(scale))
        scores = mb.add(x=mb.matmul(x=query, y=key, transpose_y=True), y=bias)
        mixed = mb.transpose(x=mb.matmul(x=mb.softmax(x=scores, axis=-1), y=value), perm=[0, 2, 1, 3])
        return mb.reshape(x=mixed, shape=[1, -1, mixed.shape[2] * mixed.shape[3]])

    def feed_forward(self, x: Any, module: FeedForward) -> Any:
        """Write a feed-forward sublayer."""
        x = self.linear(x, module.input)
        if module.gated:
            gate, x = mb.split(x=x, num_splits=2, axis=-1)
            x = mb.mul(x=self._activate(gate, module.activation), y=x)
        else:
            x = self._activate(x, module.activation)
        return self.linear(x, module.output)

    def relative_bias(self, module: RelativeBias, *, queries: Any, keys: Any) -> Any:
        """Bias of every pair of positions: int32 [query], int32 [key] → [1, heads, query, key]."""
        limit = module.max_distance
        distance = mb.sub(x=mb.expand_dims(x=keys, axes=[0]), y=mb.expand_dims(x=queries, axes=[1]))
        near = mb.minimum(x=mb.maximum(x=distance, y=-limit), y=limit)
        rows = self._rows(self.builder.vector(module.table), mb.add(x=near, y=limit))
        return mb.expand_dims(x=mb.transpose(x=rows, perm=[2, 0, 1]), axes=[0])

    def additive(self, seen: Any, axes: list[int]) -> Any:
        """1 and 0 → 0 and ``MASKED``, with more axes."""
        number = self.builder.number
        mask = mb.mul(x=mb.sub(x=self.builder.floats(seen), y=number(1)), y=number(-MASKED))
        return mb.expand_dims(x=mask, axes=axes)

    def _rows(self, table: Any, indices: Any) -> Any:
        return mb.gather(x=table, indices=indices, axis=0)

    def _activate(self, x: Any, activation: Activation) -> Any:
        match activation:
            case "relu":
                return mb.relu(x=x)
            case "gelu":
                return mb.gelu(x=x, mode="EXACT")
            case "gelu_tanh":
                return mb.gelu(x=x, mode="TANH_APPROXIMATION")
            case "silu":
                return mb.silu(x=x)


def count_up(length: Any) -> Any:
    """Positions 0 … length − 1, for a length that is known when the program runs."""
    return mb.range_1d(start=0, end=length, step=1)


def length_of(x: Any, axis: int) -> Any:
    """How long a value is along an axis, as a number."""
    return mb.gather(x=mb.shape(x=x), indices=axis, axis=0)

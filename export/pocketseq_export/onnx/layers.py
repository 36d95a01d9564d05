"""Norms, residual sums and feed-forward as ONNX Runtime's fused operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pocketseq_export.graphs.spec import Activation, GraphSpec
from pocketseq_export.graphs.stacks import Embedding
from pocketseq_export.graphs.sublayers import FeedForward
from pocketseq_export.onnx.builder import GraphBuilder
from pocketseq_export.onnx.operators import Floats, Operators


@dataclass(frozen=True, slots=True)
class NormPart:
    """A norm of the model and the name of its weights."""

    name: str
    """Prefix of the weights' names."""
    module: nn.Module
    """The norm."""


@dataclass(frozen=True, slots=True)
class Sublayer:
    """A sublayer and the norm that belongs to it."""

    norm: NormPart
    """Before or after the sublayer, as the family has it."""
    write: Callable[[str], str]
    """Writes the sublayer's nodes from its input to its output."""


class LayerWriter:
    """Writes the parts that encoder and decoder have in common."""

    def __init__(self, graph: GraphBuilder, operators: Operators, spec: GraphSpec) -> None:
        self.graph = graph
        self.operators = operators
        self.spec = spec

    def linear(self, x: str, name: str, module: nn.Linear) -> str:
        """Write a projection."""
        bias = floats(module.bias) if module.bias is not None else None
        return self.operators.linear(self.graph, x, name, floats(module.weight), bias)

    def embed(self, ids: str, positions: str, name: str, module: Embedding) -> str:
        """Write the embedding of tokens at positions."""
        # Both graphs read one token table, so that it has one name wherever it is shared.
        tokens = "tokens" if self.spec.shared_embedding else f"{name}.tokens"
        x = self.operators.lookup(self.graph, ids, tokens, floats(module.tokens.weight))
        if module.scale != 1.0:
            x = self.graph.op("Mul", x, self.graph.scalar(module.scale))
        if module.positions is not None:
            table = floats(module.positions.weight)
            x = self.graph.op("Add", x, self.operators.lookup(self.graph, positions, f"{name}.positions", table))
        if module.norm is not None:
            x = self.norm(x, NormPart(f"{name}.norm", module.norm))
        return x

    def norm(self, x: str, part: NormPart) -> str:
        """Write a norm."""
        gamma, beta = self._norm_weights(part, 1.0)
        kind = "SimplifiedLayerNormalization" if beta is None else "LayerNormalization"
        return self.graph.op(kind, x, gamma, beta, axis=-1, epsilon=self.spec.norm_epsilon)

    def add_norm(self, x: str, y: str, part: NormPart, scale: float = 1.0) -> tuple[str, str]:
        """Write a residual sum and the norm of it times a factor, as one node.

        Returns:
            The norm, and the sum.
        """
        gamma, beta = self._norm_weights(part, scale)
        kind = "SkipSimplifiedLayerNormalization" if beta is None else "SkipLayerNormalization"
        weights = (gamma,) if beta is None else (gamma, beta)
        normed, total = f"{part.name}.output", f"{part.name}.sum"
        self.graph.ops(kind, y, x, *weights, names=(normed, "", "", total), epsilon=self.spec.norm_epsilon)
        return normed, total

    def residual(self, x: str, sublayers: Sequence[Sublayer], final: NormPart | None, scale: float = 1.0) -> str:
        """Write sublayers with their residual sums and norms.

        Args:
            x: The embedded tokens.
            sublayers: In order.
            final: The norm after the last sum, where norms stand before the sublayers.
            scale: Factor of the result, folded into the last norm.
        """
        *inner, last = sublayers
        if final is None:
            for sublayer in inner:
                x, _ = self.add_norm(x, sublayer.write(x), sublayer.norm)
            return self.add_norm(x, last.write(x), last.norm, scale)[0]
        normed = self.norm(x, sublayers[0].norm)
        for sublayer, following in zip(inner, sublayers[1:], strict=True):
            normed, x = self.add_norm(x, sublayer.write(normed), following.norm)
        return self.add_norm(x, last.write(normed), final, scale)[0]

    def feed_forward(self, x: str, name: str, module: FeedForward) -> str:
        """Write a feed-forward sublayer."""
        x = self.linear(x, f"{name}.input", module.input)
        if module.gated:
            gate, x = self.graph.split(x, 2, axis=-1)
            x = self.graph.op("Mul", self._activate(gate, module.activation), x)
        else:
            x = self._activate(x, module.activation)
        return self.linear(x, f"{name}.output", module.output)

    def _activate(self, x: str, activation: Activation) -> str:
        match activation:
            case "relu":
                return self.graph.op("Relu", x)
            case "gelu":
                return self.graph.op("Gelu", x)
            case "gelu_tanh":
                return self.graph.op("Gelu", x, approximate="tanh")
            case "silu":
                return self.graph.op("QuickGelu", x, alpha=1.0)

    def _norm_weights(self, part: NormPart, scale: float) -> tuple[str, str | None]:
        named = dict(part.module.named_parameters())
        gamma = self.graph.weight(f"{part.name}.weight", floats(named["weight"] * scale))
        return gamma, self.graph.weight(f"{part.name}.bias", floats(named["bias"] * scale)) if "bias" in named else None


def floats(parameter: torch.Tensor) -> Floats:
    """A weight as an array."""
    array: Floats = parameter.detach().numpy()
    return array

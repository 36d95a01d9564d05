"""Where tokens stand: a table of biases by distance, precomputed, and sinusoids that a checkpoint does not store."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pocketseq_export.graphs.spec import GraphSpec


def distance_buckets(*, buckets: int, max_distance: int, bidirectional: bool) -> Tensor:
    """Bucket of every distance key − query that can be told apart (Raffel et al. 2020, section 2.1).

    Half of the buckets of a direction hold one distance each, the other half grow logarithmically up to ``max_distance``.

    Args:
        buckets: Number of buckets, both directions together.
        max_distance: From this distance on, all distances share the last bucket.
        bidirectional: Whether keys behind the query (positive distance) have buckets of their own.

    Returns:
        int64 [2 × max_distance + 1], for the distances −max_distance … max_distance.
    """
    distance = torch.arange(-max_distance, max_distance + 1)
    offset = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        offset = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    # In float32 and in this order, so that a distance on the border of two buckets falls where the trained model put it.
    growth = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    coarse = (exact + (growth * (buckets - exact)).long()).clamp(max=buckets - 1)
    return offset + torch.where(distance < exact, distance, coarse)


def sinusoids(count: int, width: int, *, first: int) -> Tensor:
    """Sines and then cosines of positions (Vaswani et al. 2017, section 3.5, as tensor2tensor computes them).

    Args:
        count: Number of positions.
        width: Width of the model.
        first: The first position.

    Returns:
        float32 [count, width].
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
    angles = torch.arange(first, first + count).float()[:, None] * frequencies
    waves = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return torch.nn.functional.pad(waves, (0, width - 2 * half))


class RelativeBias(nn.Module):
    """Bias of attention scores by the distance from query to key, shared by all layers of a stack."""

    def __init__(self, *, max_distance: int, heads: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.empty(2 * max_distance + 1, heads))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Look the bias up.

        Args:
            queries: int64 [query], positions in the sequence.
            keys: int64 [key].

        Returns:
            float32 [1, heads, query, key].
        """
        distance = (keys[None, :] - queries[:, None]).clamp(-self.max_distance, self.max_distance)
        return self.table[distance + self.max_distance].permute(2, 0, 1).unsqueeze(0)


def relative_bias(spec: GraphSpec, heads: int) -> RelativeBias | None:
    """The bias of a stack, or None where the family has none."""
    if spec.positions != "relative":
        return None
    return RelativeBias(max_distance=spec.relative_max_distance, heads=heads)

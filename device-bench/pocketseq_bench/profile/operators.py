"""What the nodes of a graph take, from the profile that ONNX Runtime writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, Final

PRODUCTS: Final = frozenset({"DynamicQuantizeMatMul", "FusedMatMul", "MatMul", "MatMulNBits"})
"""Operators that multiply matrices."""
_END: Final = "_kernel_time"


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """All nodes of one kind in a graph."""

    kind: str
    nodes: int
    ms: float
    """Of a run: for each node its median, as often as a loop around it takes it."""
    share: float
    """Of all nodes."""
    products: int
    """Multiplications of a run; 0 for what multiplies no matrices, and for attention, which does that among other things."""


def read_profile(file: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Runs of each node, by its name; nodes that hold others are left out."""
    nodes: dict[str, list[Mapping[str, Any]]] = {}
    for event in json.loads(file.read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith(_END) and event["args"]["op_name"] != "Loop":
            nodes.setdefault(event["name"].removesuffix(_END), []).append(event)
    return nodes


@dataclass(frozen=True, slots=True)
class NodeTime:
    """One node of a graph."""

    name: str
    ms: float
    """Of a run: its median, as often as a loop around it takes it."""
    share: float
    """Of all nodes."""


def by_node(nodes: Mapping[str, Sequence[Mapping[str, Any]]], *, runs: int) -> list[NodeTime]:
    """Every node, the longest first.

    Args:
        nodes: What ``read_profile`` gave.
        runs: Of the graph while it was profiled.
    """
    times = {name: _ms(events) / runs for name, events in nodes.items()}
    total = sum(times.values())
    return sorted((NodeTime(name=name, ms=ms, share=ms / total) for name, ms in times.items()), key=lambda one: -one.ms)


def by_kind(nodes: Mapping[str, Sequence[Mapping[str, Any]]], *, runs: int) -> list[OperatorTime]:
    """Sum nodes up by kind, the longest first.

    Args:
        nodes: What ``read_profile`` gave.
        runs: Of the graph while it was profiled.
    """
    times: dict[str, list[float]] = {}
    products: dict[str, int] = {}
    for events in nodes.values():
        kind = events[0]["args"]["op_name"]
        times.setdefault(kind, []).append(_ms(events) / runs)
        products[kind] = products.get(kind, 0) + sum(multiplications(event["args"]) for event in events) // runs
    total = sum(map(sum, times.values()))
    found = [
        OperatorTime(kind=kind, nodes=len(each), ms=sum(each), share=sum(each) / total, products=products[kind])
        for kind, each in times.items()
    ]
    return sorted(found, key=lambda one: -one.ms)


def _ms(events: Sequence[Mapping[str, Any]]) -> float:
    """All runs of a node together, none of which a busy machine has made longer than the others."""
    return len(events) * float(median(event["dur"] for event in events)) / 1000


def multiplications(arguments: Mapping[str, Any]) -> int:
    """How many numbers a node multiplies: each of its outputs is a sum over the last axis of its first input."""
    if arguments["op_name"] not in PRODUCTS:
        return 0
    shapes: list[list[list[int]]] = [list(arguments[key][0].values()) for key in ("input_type_shape", "output_type_shape")]
    (first, *_), (output, *_) = shapes
    return prod(output) * first[-1]

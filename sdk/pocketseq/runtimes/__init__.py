"""Runtimes: the libraries that run a variant, behind one small Protocol."""

from pocketseq.runtimes.opening import open_runtime
from pocketseq.runtimes.protocol import (
    UNSAID,
    AnyRuntime,
    BeamRuntime,
    Floats,
    GreedyRuntime,
    Ids,
    LazyRuntime,
    Memory,
    Run,
    Runtime,
    Step,
    Trellis,
)

__all__ = [
    "UNSAID",
    "AnyRuntime",
    "BeamRuntime",
    "Floats",
    "GreedyRuntime",
    "Ids",
    "LazyRuntime",
    "Memory",
    "Run",
    "Runtime",
    "Step",
    "Trellis",
    "open_runtime",
]

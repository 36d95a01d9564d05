"""Runtimes: the libraries that run a variant, behind one small Protocol."""

from pocketseq.runtimes.opening import open_runtime
from pocketseq.runtimes.protocol import AnyRuntime, Floats, GreedyRuntime, Ids, Memory, Run, Runtime, Step

__all__ = ["AnyRuntime", "Floats", "GreedyRuntime", "Ids", "Memory", "Run", "Runtime", "Step", "open_runtime"]

"""Measuring: fresh processes that answer in turns, and the benchmark that is made of their turns."""

from pocketseq_bench.measuring.benchmark import run_bench
from pocketseq_bench.measuring.inputs import BenchInputs, default_inputs, read_inputs
from pocketseq_bench.measuring.settings import QUICK, BenchSettings

__all__ = ["QUICK", "BenchInputs", "BenchSettings", "default_inputs", "read_inputs", "run_bench"]

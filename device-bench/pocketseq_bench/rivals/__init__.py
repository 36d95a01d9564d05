"""The SDK beside what a user would pick instead, in one run, on the same weights and inputs."""

from pocketseq_bench.rivals.comparison import compare
from pocketseq_bench.rivals.contenders import CONTENDERS, Contender
from pocketseq_bench.rivals.table import write_table

__all__ = ["CONTENDERS", "Contender", "compare", "write_table"]

"""Pairs of input and answer from the files that people have: JSONL, CSV, Parquet, parallel text, and data sets by name."""

from pocketseq_distill.pairs.columns import Columns
from pocketseq_distill.pairs.sources import read_pairs

__all__ = ["Columns", "read_pairs"]

"""The graph as one TFLite program of several signatures, for LiteRT."""

from pocketseq_export.tflite.precisions import PRECISIONS
from pocketseq_export.tflite.programs import write_programs

__all__ = ["PRECISIONS", "write_programs"]

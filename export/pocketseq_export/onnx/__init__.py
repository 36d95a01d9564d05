"""The graph as ONNX programs for ONNX Runtime."""

from pocketseq_export.onnx.operators import PRECISIONS
from pocketseq_export.onnx.programs import write_programs

__all__ = ["PRECISIONS", "write_programs"]

"""The graph as Core ML programs: one stateful package of two functions, or a stateless one for older systems."""

from pocketseq_export.coreml.precisions import PRECISIONS
from pocketseq_export.coreml.programs import write_programs

__all__ = ["PRECISIONS", "write_programs"]

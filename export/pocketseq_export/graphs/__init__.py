"""One re-authored encoder-decoder for all supported families, from which every runtime's programs are written."""

from pocketseq_export.graphs.families import FAMILIES, author
from pocketseq_export.graphs.model import Encoded, EncoderDecoder, Reach, Stepped
from pocketseq_export.graphs.spec import GraphSpec, StackSpec
from pocketseq_export.graphs.sublayers import KeyValue

__all__ = ["FAMILIES", "Encoded", "EncoderDecoder", "GraphSpec", "KeyValue", "Reach", "StackSpec", "Stepped", "author"]

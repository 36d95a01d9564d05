"""The JSON Schema of what this room writes; ``python -m pocketseq_bench.schema`` makes the files anew from the records."""

from pocketseq_bench.schema.generation import schema_of, schema_text

__all__ = ["schema_of", "schema_text"]

"""Write the schemas anew: ``python -m pocketseq_bench.schema`` in the root of the repository."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from pocketseq.files import writing
from pocketseq_bench.schema.generation import RECORDS, schema_text

ArgumentParser(prog="python -m pocketseq_bench.schema", description="Write the schemas of the result files anew.").parse_args()
for name, kind in RECORDS.items():
    with writing(Path(__file__).parent / name) as file:
        file.write(schema_text(name, kind))

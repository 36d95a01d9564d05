"""The reports of benchmarks as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketseq.files import writing
from pocketseq_bench.document import BenchDocument
from pocketseq_bench.report.bench_page import bench_page
from pocketseq_bench.report.bench_table import bench_markdown
from pocketseq_bench.report.rivals import rivals_markdown


def write_bench_reports(directory: Path, documents: Sequence[BenchDocument]) -> None:
    """Write ``bench.md`` and ``bench.html``, both made from the documents alone."""
    with writing(directory / "bench.md") as file:
        file.write(
            "\n".join([bench_markdown(documents), *(rivals_markdown(each.rivals) + "\n" for each in documents if each.rivals)])
        )
    with writing(directory / "bench.html") as file:
        file.write(bench_page(documents))

"""What was found: JSON for programs, pages and tables for people; of a run, and of a benchmark."""

from pocketseq_bench.report.bench_page import bench_page
from pocketseq_bench.report.bench_table import bench_markdown, bench_table
from pocketseq_bench.report.document import report_document
from pocketseq_bench.report.findings import Findings, read_findings
from pocketseq_bench.report.measures import headline
from pocketseq_bench.report.page import report_page
from pocketseq_bench.report.terminal import terminal_report

__all__ = [
    "Findings",
    "bench_markdown",
    "bench_page",
    "bench_table",
    "headline",
    "read_findings",
    "report_document",
    "report_page",
    "terminal_report",
]

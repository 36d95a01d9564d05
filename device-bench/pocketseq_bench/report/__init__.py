"""What a run found: ``report.json`` for programs, ``report.html`` and a table for people."""

from pocketseq_bench.report.document import report_document
from pocketseq_bench.report.findings import Findings, read_findings
from pocketseq_bench.report.page import report_page
from pocketseq_bench.report.terminal import bench_table, terminal_report

__all__ = ["Findings", "bench_table", "read_findings", "report_document", "report_page", "terminal_report"]

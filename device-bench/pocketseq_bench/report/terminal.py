"""The report as plain text, for the end of a demo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pocketseq.report.figures import decimal, megabytes, millions, milliseconds, share
from pocketseq_bench.report.findings import Findings, SuggestionFindings

HEADINGS: Final = ("", "parameters", "MB", "exact match", "edit similarity", "parses", "ms p50", "ms p95")


def terminal_report(findings: Findings) -> str:
    """The table of models, the hybrid row and the suggestions."""
    hybrid = findings.hybrid
    rows = [
        (
            f"{model.name} ({model.runtime})",
            millions(model.parameters),
            megabytes(model.size_bytes),
            share(model.quality["exact_match"]),
            share(model.quality["edit_similarity"]),
            share(model.quality["parses"]),
            milliseconds(model.p50_ms),
            milliseconds(model.p95_ms),
        )
        for model in findings.models
    ]
    rows.append(("hybrid", "", "", share(hybrid.exact_match), "", "", milliseconds(hybrid.p50_ms), milliseconds(hybrid.p95_ms)))
    routes = f"{share(hybrid.coverage)} of {hybrid.n} rows answered on the device, {share(hybrid.cloud_fraction)} from the cloud"
    alone = f"the device alone is right on {share(hybrid.local_exact_match)} of them"
    lines = [text_table(HEADINGS, rows), f"hybrid: {routes}; {alone}; AUROC of the confidence {decimal(hybrid.auroc)}", ""]
    for suggestion in hybrid.suggestions:
        lines += _suggestion(suggestion)
    return "\n".join(lines)


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their headings: the first to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]

    def text(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        return "  ".join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])

    return "\n".join([text(headings), "  ".join("-" * width for width in widths), *map(text, rows)])


def _suggestion(suggestion: SuggestionFindings) -> list[str]:
    answer = "no change" if suggestion.answer == suggestion.line else suggestion.answer.strip()
    verdict = "right" if suggestion.answer == suggestion.target else f"wrong, should be: {suggestion.target.strip()}"
    return [
        f"{suggestion.source:>5}  {decimal(suggestion.confidence)}  {suggestion.line.strip()}",
        f"{'->':>12} {answer}   ({verdict})",
    ]

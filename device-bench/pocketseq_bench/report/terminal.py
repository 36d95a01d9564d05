"""The report as plain text, for the end of a demo."""

from __future__ import annotations

from collections.abc import Sequence

from pocketseq.metrics import chrf
from pocketseq.report.figures import decimal, megabytes, millions, milliseconds, share
from pocketseq_bench.report.findings import Findings, SuggestionFindings
from pocketseq_bench.report.measures import hybrid_measure, is_by_degree, measures_of, of_hybrid, value_of


def terminal_report(findings: Findings) -> str:
    """The table of models by what their task is judged by, the hybrid row and the suggestions."""
    hybrid, measures = findings.hybrid, measures_of(findings)
    judged = [f"{measure.title}{' (lower is better)' * (measure.name in ('wer', 'per'))}" for measure in measures]
    rows = [
        (
            f"{model.name} ({model.runtime})",
            millions(model.parameters),
            megabytes(model.size_bytes),
            *(measure.shown(value_of(findings, model, measure)) for measure in measures),
            milliseconds(model.p50_ms),
            milliseconds(model.p95_ms),
        )
        for model in findings.models
    ]
    both = ("" if (value := of_hybrid(hybrid, measure)) is None else measure.shown(value) for measure in measures)
    rows.append(("hybrid", "", "", *both, milliseconds(hybrid.p50_ms), milliseconds(hybrid.p95_ms)))
    common = hybrid_measure(findings)
    routes = f"{share(hybrid.coverage)} of {hybrid.n} rows answered on the device, {share(hybrid.cloud_fraction)} from the cloud"
    alone = f"by {common.title} the device alone has {common.shown(of_hybrid(hybrid, common, local=True))} on them"
    headings = ("", "parameters", "MB", *judged, "ms p50", "ms p95")
    lines = [text_table(headings, rows), f"hybrid: {routes}; {alone}; AUROC of the confidence {decimal(hybrid.auroc)}", ""]
    for suggestion in hybrid.suggestions:
        lines += _suggestion(suggestion, by_likeness=is_by_degree(findings))
    return "\n".join(lines)


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their headings: the first to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]

    def text(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        return "  ".join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])

    return "\n".join([text(headings), "  ".join("-" * width for width in widths), *map(text, rows)])


def _suggestion(suggestion: SuggestionFindings, *, by_likeness: bool) -> list[str]:
    answer = "no change" if suggestion.answer == suggestion.line else suggestion.answer.strip()
    verdict = "right" if suggestion.answer == suggestion.target else f"wrong, should be: {suggestion.target.strip()}"
    if by_likeness:
        verdict = f"chrF {100 * chrf([suggestion.answer], [suggestion.target]):.0f}, reference: {suggestion.target.strip()}"
    return [
        f"{suggestion.source:>5}  {decimal(suggestion.confidence)}  {suggestion.line.strip()}",
        f"{'->':>12} {answer}   ({verdict})",
    ]

"""Changes between two benchmarks as a table."""

from __future__ import annotations

from collections.abc import Sequence

from pocketseq.report.figures import MISSING, fine_milliseconds, share
from pocketseq_bench.regression import TIMED, Change
from pocketseq_bench.report.terminal import text_table


def comparison_table(changes: Sequence[Change]) -> str:
    """One line for each configuration and metric."""
    headings = ("", "metric", "before", "after", "change", "95% interval", "")
    rows = []
    for change in changes:
        ratio = change.ratio
        interval = (
            MISSING if ratio is None or not change.tested else f"{100 * (ratio.low - 1):+.1f} … {100 * (ratio.high - 1):+.1f}%"
        )
        by = MISSING if ratio is None else f"{100 * (ratio.value - 1):+.1f}%"
        verdict = "differs" if change.significant else "" if ratio is None else "same" if not change.tested else "may be chance"
        rows.append(
            (
                change.label,
                change.metric,
                _shown(change.metric, change.before),
                _shown(change.metric, change.after),
                by,
                interval,
                verdict,
            )
        )
    return text_table(headings, rows)


def _shown(metric: str, value: float | None) -> str:
    if value is None:
        return MISSING
    if metric in ("size", "memory", "peak_memory"):
        return f"{value / 1e6:.1f} MB"
    if metric in ("exact_match", "edit_similarity", "chrf", "repaired"):
        return share(value)
    return f"{fine_milliseconds(value)}{' ms' if metric in TIMED else ''}"

"""The part of a run's report that shows suggestions: a repair as an editor marks it, any other answer below what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from pocketseq.edits import find_edit, lexemes
from pocketseq.metrics import chrf, edit_similarity
from pocketseq.report.figures import decimal
from pocketseq_bench.report.findings import Findings, SuggestionFindings
from pocketseq_bench.report.measures import is_by_degree

_ALIKE: Final = 0.7
"""How much of an answer stands in the question already, where answers are repairs."""


def suggestions_section(findings: Findings) -> str:
    """A few rows of the test split and what was answered, from both sources."""
    repairs = _are_repairs(findings.hybrid.suggestions)
    by_likeness = is_by_degree(findings)
    title, what = (
        ("As an editor shows them", "The line as it was typed, and the suggestion below it.")
        if repairs
        else ("What was asked and answered", "What was asked, and the answer below it.")
    )
    rows = "\n".join(_row(suggestion, repairs=repairs, by_likeness=by_likeness) for suggestion in findings.hybrid.suggestions)
    return (
        f'<section>\n<h2>{title}</h2>\n<p class="note">Rows of the test split, taken in order, from both sources. {what}</p>\n'
        '<div class="card wide">\n<table class="suggestions">\n<thead><tr><th>Source</th><th>Confidence</th>'
        f"<th>{'chrF' if by_likeness else 'Right'}</th><th>{'Suggestion' if repairs else 'Answer'}</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</section>"
    )


def _are_repairs(suggestions: Sequence[SuggestionFindings]) -> bool:
    """Whether what is right is mostly what was asked about, so that a person looks for what changes."""
    alike = [edit_similarity(suggestion.line, suggestion.target) for suggestion in suggestions]
    return bool(alike) and sum(alike) / len(alike) > _ALIKE


def _row(suggestion: SuggestionFindings, *, repairs: bool, by_likeness: bool) -> str:
    line, answer, target = suggestion.line.strip(), suggestion.answer.strip(), suggestion.target.strip()
    before, after = _marked(line, answer) if repairs else (escape(line), escape(answer) or "<em>nothing</em>")
    is_right = suggestion.answer == suggestion.target
    right = "yes" if is_right else '<span class="wrong">no</span>'
    if by_likeness:
        right = f"{100 * chrf([answer], [target]):.0f}"
    truth = "" if is_right else f"<code><em>{'should be' if not by_likeness else 'reference'}</em> {escape(target)}</code>"
    reason = escape(suggestion.reason, quote=True)
    source = f'<span class="pill {suggestion.source}" title="{reason}">{suggestion.source}</span>'
    return (
        f"<tr><td>{source}</td><td>{decimal(suggestion.confidence)}</td><td>{right}</td>"
        f'<td><code class="before">{before}</code><code>{after}</code>{truth}</td></tr>'
    )


def _marked(line: str, answer: str) -> tuple[str, str]:
    """Both texts without their indentation, what goes and what comes marked."""
    edit = find_edit(line, answer)
    if edit is None:
        return escape(line), "<em>no change</em>"
    parts = lexemes(line)
    head, gone, tail = "".join(parts[: edit.start]), "".join(parts[edit.start : edit.stop]), "".join(parts[edit.stop :])
    before = f"{escape(head)}<del>{escape(gone)}</del>{escape(tail)}"
    return before, f"{escape(head)}<ins>{escape(edit.text)}</ins>{escape(tail)}"

"""``report.html``: what a run found, for people; one file that needs nothing else."""

from __future__ import annotations

from html import escape
from typing import Final

from pocketseq.edits import find_edit, lexemes
from pocketseq.report.figures import decimal, megabytes, millions, milliseconds, share
from pocketseq.report.frame import html_frame
from pocketseq_bench.report.choice import choice_section
from pocketseq_bench.report.findings import Findings, ModelFindings, SuggestionFindings
from pocketseq_bench.report.gap import gap_section
from pocketseq_bench.report.plots import latency_plot, risk_coverage_plot

QUALITIES: Final = ("exact_match", "edit_similarity", "parses", "repaired", "false_alarms")
HEADINGS: Final = (
    "Model",
    "Parameters",
    "MB on disk",
    "Exact match",
    "Edit similarity",
    "Parses",
    "Slips repaired",
    "False alarms",
)


def report_page(findings: Findings) -> str:
    """The report as HTML."""
    parts = [
        _header(findings),
        _tiles(findings),
        _models(findings),
        _plots(findings),
        choice_section(findings.judged),
        gap_section(findings.gap),
        _suggestions(findings.hybrid.suggestions),
        _footer(findings),
    ]
    return html_frame(f"pocketseq · {findings.recipe}", parts)


def _header(findings: Findings) -> str:
    teacher, shipped = findings.models[0], findings.models[-1]
    claims = []
    kept, right = shipped.quality["exact_match"], teacher.quality["exact_match"]
    if kept is not None and right:
        claims.append(f"keeps {share(kept / right)} of its teacher's exact match")
    instead = "" if teacher.size_bytes is None else f" instead of {megabytes(teacher.size_bytes)}"
    claims.append(f"takes {megabytes(shipped.size_bytes)} MB{instead}")
    if teacher.p50_ms and shipped.p50_ms:
        claims.append(f"answers {teacher.p50_ms / shipped.p50_ms:.1f} times as fast")
    listed = " and ".join([", ".join(claims[:-1]), claims[-1]] if len(claims) > 1 else claims)
    sentence = f"The {shipped.precision} student {listed}."
    return f"<header>\n<p>{escape(findings.task)} · recipe {escape(findings.recipe)}</p>\n<h1>{escape(sentence)}</h1>\n</header>"


def _tiles(findings: Findings) -> str:
    hybrid, startup = findings.hybrid, findings.startup_ms
    first = sum(startup.values())
    tiles = [
        (share(findings.models[-1].quality["exact_match"]), "exact match, on the device alone"),
        (share(hybrid.exact_match), f"exact match with the cloud asked for {share(hybrid.cloud_fraction)}"),
        (decimal(hybrid.auroc), "AUROC: how well confidence separates right from wrong"),
        (f"{milliseconds(first)} ms", "import, load and first suggestion in a fresh process"),
    ]
    cells = "\n".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(words)}</span></div>' for value, words in tiles)
    return f'<div class="tiles">\n{cells}\n</div>'


def _models(findings: Findings) -> str:
    headings = "".join(f"<th>{heading}</th>" for heading in (*HEADINGS, "ms p50", "ms p95"))
    rows = "\n".join(_model_row(model) for model in findings.models)
    hybrid = findings.hybrid
    cells = ["", "", share(hybrid.exact_match), "", "", "", "", milliseconds(hybrid.p50_ms), milliseconds(hybrid.p95_ms)]
    cloud = f'<span class="dot hybrid"></span>hybrid<small>{share(hybrid.cloud_fraction)} from the cloud, {hybrid.n} rows</small>'
    rows += f'\n<tr class="hybrid-row"><td>{cloud}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    counts = sorted({model.n for model in findings.models})
    note = (
        f"Measured on {' and '.join(map(str, counts))} held-out rows, from files that no training row comes from. "
        "Times are for one suggestion end to end, one thread, one at a time. "
        f"The hybrid was asked about {hybrid.n} of the rows; on these the device alone has {share(hybrid.local_exact_match)}."
    )
    note += f" Of the hybrid: {escape(hybrid.note)}." if hybrid.note else ""
    note += "".join(f" Of the {model.name}: {escape(model.note)}." for model in findings.models if model.note)
    return (
        f'<section>\n<h2>Teacher and student</h2>\n<p class="note">{note}</p>\n<div class="card wide">\n'
        f"<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</section>"
    )


def _model_row(model: ModelFindings) -> str:
    cells = [millions(model.parameters), megabytes(model.size_bytes)]
    cells += [share(model.quality[name]) for name in QUALITIES]
    cells += [milliseconds(model.p50_ms), milliseconds(model.p95_ms)]
    kind = "teacher" if model.name == "teacher" else "student"
    name = f'<span class="dot {kind}"></span>{escape(model.name)}<small>{escape(model.runtime)}, {escape(model.precision)}</small>'
    return f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _plots(findings: Findings) -> str:
    hybrid = findings.hybrid
    if hybrid.threshold is None:
        promise = "No threshold could be promised on the calibration split, so every suggestion asks the cloud."
    else:
        promise = (
            f"The threshold was fixed on the calibration split: with probability {share(1 - (hybrid.delta or 0))} at most "
            f"{share(hybrid.risk)} of the answers served locally are wrong."
        )
    key = (
        '<ul class="key"><li><i></i>by confidence</li><li><i class="oracle"></i>perfect confidence</li>'
        '<li><i class="chance"></i>everything served</li><li><i class="promise"></i>promise</li></ul>'
    )
    return (
        f'<section class="plots">\n<section class="card">\n<h2>When to trust the device</h2>\n<p class="note">{promise}</p>\n'
        f'{risk_coverage_plot(hybrid)}\n{key}\n</section>\n<section class="card">\n<h2>How long a suggestion takes</h2>\n'
        f'<p class="note">Large dot: median. Small dot: 95th percentile.</p>\n{latency_plot(findings)}\n</section>\n</section>'
    )


def _suggestions(suggestions: tuple[SuggestionFindings, ...]) -> str:
    rows = "\n".join(_suggestion_row(suggestion) for suggestion in suggestions)
    return (
        '<section>\n<h2>As an editor shows them</h2>\n<p class="note">Rows of the test split, taken in order, from both sources. '
        "The line as it was typed, and the suggestion below it.</p>\n"
        '<div class="card wide">\n<table class="suggestions">\n<thead><tr><th>Source</th><th>Confidence</th><th>Right</th>'
        f"<th>Suggestion</th></tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</section>"
    )


def _suggestion_row(suggestion: SuggestionFindings) -> str:
    before, after = _marked(suggestion.line, suggestion.answer)
    is_right = suggestion.answer == suggestion.target
    right = "yes" if is_right else '<span class="wrong">no</span>'
    truth = "" if is_right else f"<code><em>should be</em> {escape(suggestion.target.strip())}</code>"
    reason = escape(suggestion.reason, quote=True)
    source = f'<span class="pill {suggestion.source}" title="{reason}">{suggestion.source}</span>'
    return (
        f"<tr><td>{source}</td><td>{decimal(suggestion.confidence)}</td><td>{right}</td>"
        f'<td><code class="before">{before}</code><code>{after}</code>{truth}</td></tr>'
    )


def _marked(line: str, answer: str) -> tuple[str, str]:
    """Both texts without their indentation, what goes and what comes marked."""
    line, answer = line.strip(), answer.strip()
    edit = find_edit(line, answer)
    if edit is None:
        return escape(line), "<em>no change</em>"
    parts = lexemes(line)
    head, gone, tail = "".join(parts[: edit.start]), "".join(parts[edit.start : edit.stop]), "".join(parts[edit.stop :])
    before = f"{escape(head)}<del>{escape(gone)}</del>{escape(tail)}"
    return before, f"{escape(head)}<ins>{escape(edit.text)}</ins>{escape(tail)}"


def _footer(findings: Findings) -> str:
    where = findings.environment
    libraries = ", ".join(f"{name} {version}" for name, version in where["libraries"].items())
    entries = [
        ("Machine", f"{where['processor'] or where['machine']}, {where['logical_cores']} logical cores, {where['os']}"),
        ("Software", f"Python {where['python']}, {libraries}"),
    ]
    for parity in findings.parity:
        term = f"Parity of {parity['runtime']} {parity['precision']}"
        identical = f"{share(parity['identical_generations'])} of {parity['inputs']} generations identical to PyTorch's"
        entries.append((term, f"{identical}, log-probabilities within {parity['max_abs_logit_difference']:.2g}"))
    body = "".join(f"<dt>{escape(term)}</dt><dd>{escape(words)}</dd>" for term, words in entries)
    return f"<footer>\n<h2>Where and how</h2>\n<dl>{body}</dl>\n</footer>"

"""``report.html``: what a run found, for people; one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pocketseq.report.figures import decimal, megabytes, millions, milliseconds, share
from pocketseq.report.frame import html_frame
from pocketseq_bench.report.choice import choice_section
from pocketseq_bench.report.findings import Findings, ModelFindings
from pocketseq_bench.report.gap import gap_section
from pocketseq_bench.report.measures import Measure, headline, hybrid_measure, is_by_degree, measures_of, of_hybrid, value_of
from pocketseq_bench.report.plots import latency_plot, risk_coverage_plot
from pocketseq_bench.report.protocol import protocol_section
from pocketseq_bench.report.suggestions import suggestions_section


def report_page(findings: Findings) -> str:
    """The report as HTML."""
    parts = [
        _header(findings),
        _tiles(findings),
        protocol_section(findings.table),
        _models(findings),
        _plots(findings),
        choice_section(findings.judged, by_chrf=is_by_degree(findings)),
        gap_section(findings.gap),
        suggestions_section(findings),
        _footer(findings),
    ]
    return html_frame(f"pocketseq · {findings.recipe}", parts)


def _header(findings: Findings) -> str:
    about = f"{escape(findings.task)} · recipe {escape(findings.recipe)}"
    return f"<header>\n<p>{about}</p>\n<h1>{escape(headline(findings))}</h1>\n</header>"


def _tiles(findings: Findings) -> str:
    hybrid, startup = findings.hybrid, findings.startup_ms
    first, measure, common = sum(startup.values()), measures_of(findings)[0], hybrid_measure(findings)
    alone, both = value_of(findings, findings.models[-1], measure), of_hybrid(hybrid, common)
    # Rows of its own, on which the device alone has another value than on all: the two tiles are not to be held against each other.
    there = f", {common.shown(of_hybrid(hybrid, common, local=True))} without it on these {hybrid.n:,} rows"
    tiles = [
        (measure.shown(alone), f"{measure.title}, on the device alone{_direction(measure)}"),
        (common.shown(both), f"{common.title} with the cloud asked for {share(hybrid.cloud_fraction)}{there}{_direction(common)}"),
        (decimal(hybrid.auroc), "AUROC: how well confidence separates right from wrong"),
        (f"{milliseconds(first)} ms", "import, load and first suggestion in a fresh process"),
    ]
    cells = "\n".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(words)}</span></div>' for value, words in tiles)
    return f'<div class="tiles">\n{cells}\n</div>'


def _models(findings: Findings) -> str:
    measures, common, hybrid = measures_of(findings), hybrid_measure(findings), findings.hybrid
    judged = [measure.title.capitalize() if measure.title.islower() else measure.title for measure in measures]
    headings = "".join(
        f"<th>{escape(heading)}</th>" for heading in ("Model", "Parameters", "MB on disk", *judged, "ms p50", "ms p95")
    )
    counts = sorted({model.n for model in findings.models})
    rows = "\n".join(_model_row(findings, model, measures, with_rows=len(counts) > 1) for model in findings.models)
    both = ["" if (value := of_hybrid(hybrid, measure)) is None else measure.shown(value) for measure in measures]
    cells = ["", "", *both, milliseconds(hybrid.p50_ms), milliseconds(hybrid.p95_ms)]
    cloud = f'<span class="dot hybrid"></span>hybrid<small>{share(hybrid.cloud_fraction)} from the cloud, {hybrid.n} rows</small>'
    rows += f'\n<tr class="hybrid-row"><td>{cloud}</td>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    note = (
        f"Measured on {' and '.join(map(str, counts))} held-out rows. "
        "Times are for one suggestion end to end, one thread, one at a time. "
        f"The hybrid was asked about {hybrid.n} of the rows; on these the device alone has "
        f"{common.shown(of_hybrid(hybrid, common, local=True))} {common.title}."
    )
    lower = [measure.title for measure in measures if measure.better == "lower"]
    note += f" Lower is better for {' and '.join(lower)}." if lower else ""
    note += f" Of the hybrid: {escape(hybrid.note)}." if hybrid.note else ""
    note += "".join(f" Of the {model.name}: {escape(model.note)}." for model in findings.models if model.note)
    return (
        f'<section>\n<h2>Teacher and student</h2>\n<p class="note">{note}</p>\n<div class="card wide">\n'
        f"<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</section>"
    )


def _model_row(findings: Findings, model: ModelFindings, measures: Sequence[Measure], *, with_rows: bool) -> str:
    cells = [millions(model.parameters), megabytes(model.size_bytes)]
    cells += [measure.shown(value_of(findings, model, measure)) for measure in measures]
    cells += [milliseconds(model.p50_ms), milliseconds(model.p95_ms)]
    kind = "teacher" if model.name == "teacher" else "student"
    made = escape(f"{model.runtime}, {model.precision}" + (f", {model.n:,} rows" if with_rows else ""))
    name = f'<span class="dot {kind}"></span>{escape(model.name)}<small>{made}</small>'
    return f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _direction(measure: Measure) -> str:
    return "; lower is better" if measure.better == "lower" else ""


def _plots(findings: Findings) -> str:
    hybrid = findings.hybrid
    # A promise about right and wrong is drawn as one, however the task is judged.
    by_likeness = is_by_degree(findings) and bool(hybrid.likeness) and (hybrid.threshold is None or hybrid.loss == "chrf")
    if hybrid.threshold is None:
        promise = "No threshold could be promised on the calibration split, so every suggestion asks the cloud."
    else:
        what = "the chrF of the answers served locally is lost" if by_likeness else "the answers served locally are wrong"
        promise = (
            f"The threshold was fixed on the calibration split: with probability {share(1 - (hybrid.delta or 0))} at most "
            f"{share(hybrid.risk)} of {what}."
        )
    promise += " What an answer loses is 1 less its chrF." if by_likeness else ""
    key = (
        '<ul class="key"><li><i></i>by confidence</li><li><i class="oracle"></i>perfect confidence</li>'
        '<li><i class="chance"></i>everything served</li><li><i class="promise"></i>promise</li></ul>'
    )
    return (
        f'<section class="plots">\n<section class="card">\n<h2>When to trust the device</h2>\n<p class="note">{promise}</p>\n'
        f"{risk_coverage_plot(hybrid, by_likeness=by_likeness)}\n{key}\n</section>\n"
        '<section class="card">\n<h2>How long a suggestion takes</h2>\n'
        f'<p class="note">Large dot: median. Small dot: 95th percentile.</p>\n{latency_plot(findings)}\n</section>\n</section>'
    )


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

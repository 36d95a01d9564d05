"""A replay as tables and as a page."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Final

from pocketseq.files import writing
from pocketseq.records import plain
from pocketseq.report.drawing import Scale, dot, line, path, picture, round_steps, text
from pocketseq.report.figures import MISSING, milliseconds, share
from pocketseq.report.frame import html_card, html_frame
from pocketseq_bench.document import write_compact_json
from pocketseq_bench.replay.document import ReplayDocument, ThresholdRow
from pocketseq_bench.replay.replaying import ALWAYS
from pocketseq_bench.report.bench_table import markdown_table
from pocketseq_bench.report.labels import Labels
from pocketseq_bench.report.terminal import text_table

HEADINGS: Final = (
    *("threshold", "requests", "overtaken", "local", "cloud", "cache", "failed", "exact match", "edit similarity"),
    *("shown", "of these right", "ms p50", "ms p95", "keys saved", "kB sent", "cost"),
)
WIDTH, HEIGHT = 560, 320


def replay_table(document: ReplayDocument) -> str:
    """The table for a terminal, and what was simulated."""
    return "\n".join([text_table(HEADINGS, [_cells(row) for row in document.rows]), "", *_notes(document)])


def write_replay_reports(directory: Path, document: ReplayDocument) -> None:
    """Write ``replay.json``, ``replay.md`` and ``replay.html``."""
    values = plain(document)
    write_compact_json(directory / "replay.json", {"format": values.pop("format"), **values})
    with writing(directory / "replay.md") as file:
        file.write(replay_markdown(document))
    with writing(directory / "replay.html") as file:
        file.write(replay_page(document))


def replay_markdown(document: ReplayDocument) -> str:
    """The replay as Markdown, generated from its JSON."""
    table = markdown_table(HEADINGS, [_cells(row) for row in document.rows])
    notes = "\n".join(f"- {note}" for note in _notes(document))
    return f"# {document.bundle.name}: an editing session through the hybrid\n\n{table}\n\n{notes}\n"


def replay_page(document: ReplayDocument) -> str:
    """The replay as HTML."""
    headings = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(row)) + "</tr>" for row in document.rows)
    first = document.rows[0]
    answered = f"the device gives {share(first.local)} of the answers, and {share(first.exact_match)} are right"
    sentence = f"With the threshold {_name(first)}, {answered}."
    head = f"{escape(document.bundle.name)} · {escape(document.variant)} · {escape(document.made_at)}"
    plots = [
        html_card(
            "What asking the cloud brings",
            "Every dot is a threshold, from all local to all from the cloud.",
            usefulness_plot(document),
        ),
        html_card("What it costs", "Time to suggestion, p50 to p95, the debounce not included.", wait_plot(document)),
    ]
    parts = [
        f"<header>\n<p>{head}</p>\n<h1>{escape(sentence)}</h1>\n</header>",
        f'<section class="plots">\n{"".join(plots)}</section>',
        (
            '<section>\n<h2>Every threshold</h2>\n<div class="card wide">\n'
            f"<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n</section>"
        ),
        f"<footer>\n<h2>Where and how</h2>\n{''.join(f'<p>{escape(note)}</p>' for note in _notes(document))}</footer>",
    ]
    return html_frame(f"pocketseq bench replay · {document.bundle.name}", parts)


def usefulness_plot(document: ReplayDocument) -> str:
    """Right answers against the share that the cloud gave."""
    rows = sorted(document.rows, key=lambda row: row.cloud)
    ticks = round_steps(1.0, at_most=5)
    x, y = Scale(0, 1, 52, WIDTH - 24), Scale(0, 1, HEIGHT - 48, 14)
    shapes = [line(x(0), y(tick), x(1), y(tick), "grid") for tick in ticks]
    shapes += [text(x(0) - 8, y(tick) + 4, f"{100 * tick:g}%", "tick end") for tick in ticks]
    shapes += [text(x(tick), y(0) + 18, f"{100 * tick:g}%", "tick middle") for tick in ticks]
    shapes.append(text(x(0.5), HEIGHT - 8, "answers from the cloud; upwards: right answers", "label middle"))
    places = [(x(row.cloud), y(row.exact_match)) for row in rows]
    shapes.append(path(places, "series student"))
    labels = Labels(places, width=WIDTH, height=HEIGHT - 48, beside=False)
    for row, place in zip(rows, places, strict=True):
        calibrated = row.threshold is None
        shapes.append(dot(*place, f"mark {'hybrid' if calibrated else 'student'}", radius=6))
        shapes.append(labels.put(_name(row), place, "strong" if calibrated else "label"))
    return picture(WIDTH, HEIGHT, "Right answers against the share that the cloud gave", shapes)


def wait_plot(document: ReplayDocument) -> str:
    """Median and 95th percentile of the time to suggestion, threshold by threshold."""
    ticks = round_steps(max(row.p95_ms for row in document.rows) * 1.12, at_most=6)
    height = 12 + 40 * len(document.rows) + 46
    x = Scale(0, ticks[-1], 136, WIDTH - 56)
    shapes = [line(x(tick), 8, x(tick), height - 46, "grid") for tick in ticks]
    shapes += [text(x(tick), height - 28, f"{tick:g}", "tick middle") for tick in ticks]
    shapes.append(text((x.start + x.stop) / 2, height - 8, "milliseconds from request to suggestion", "label middle"))
    for index, row in enumerate(document.rows):
        centre = 12 + 40 * (index + 0.5)
        kind = "hybrid" if row.threshold is None else "student"
        shapes.append(text(124, centre + 4, _name(row), "tick end"))
        shapes.append(line(x(row.p50_ms), centre, x(row.p95_ms), centre, f"range {kind}"))
        shapes.append(dot(x(row.p50_ms), centre, f"mark {kind}", radius=6))
        shapes.append(
            text(x(row.p95_ms) + 10, centre + 4, f"{milliseconds(row.p50_ms)} to {milliseconds(row.p95_ms)}", "label start")
        )
    return picture(WIDTH, height, "Time to suggestion", shapes)


def _name(row: ThresholdRow) -> str:
    if row.threshold is None:
        return "calibrated"
    return "all from cloud" if row.threshold >= ALWAYS else "all local" if row.threshold == 0 else f"{row.threshold:g}"


def _cells(row: ThresholdRow) -> tuple[str, ...]:
    return (
        _name(row),
        str(row.requests),
        share(row.cancelled),
        share(row.local),
        share(row.cloud),
        share(row.cache),
        str(row.failures),
        share(row.exact_match),
        share(row.edit_similarity),
        share(row.shown),
        share(row.shown_right),
        milliseconds(row.p50_ms),
        milliseconds(row.p95_ms),
        f"{row.saved_keys} ({share(row.saved_share)})",
        f"{row.bytes_sent / 1000:.1f}",
        MISSING if row.cost is None else f"{row.cost:.4f}",
    )


def _notes(document: ReplayDocument) -> list[str]:
    session, network = document.session, document.network
    gone = f", {len(network['outages'])} outages" if network["outages"] else ""
    way = f"{network['latency_ms']:g} ms more by the network (median), {share(network['loss'])} lost{gone}"
    deadline = "without a deadline" if document.deadline_ms is None else f"deadline {document.deadline_ms:g} ms"
    return [
        f"Session: {session.name}, {session.origin}, {session.keystrokes:,} keys in {session.minutes:.1f} min.",
        f"Cloud: {document.cloud}; {way}; {deadline}.",
        f"Local: {document.variant} on {document.device.label}, Python {document.device.python}.",
        document.simulated,
    ]

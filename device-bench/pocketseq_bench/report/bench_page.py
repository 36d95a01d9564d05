"""``bench.html``: one benchmark, or those of several devices, for people; one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pocketseq.report.figures import fine_milliseconds, megabytes, milliseconds, share
from pocketseq.report.frame import html_card, html_frame
from pocketseq_bench.document import BenchDocument
from pocketseq_bench.report.bench_plots import PARTS, STARTS, device_plot, distribution_plot, key, stage_plot, start_plot
from pocketseq_bench.report.bench_table import HEADINGS, cells, device_lines, device_names, on_fewer_inputs, problem_lines, start_ms
from pocketseq_bench.report.pareto import ParetoPoint, pareto_front, pareto_plot
from pocketseq_bench.report.rivals import rivals_section
from pocketseq_bench.row import Row


def bench_page(documents: Sequence[BenchDocument]) -> str:
    """The benchmarks as HTML.

    Args:
        documents: One for each device, at least one.
    """
    first = documents[0]
    parts = [_header(documents)]
    if len(documents) > 1:
        parts.append(_devices(documents))
    for name, document in zip(device_names(documents), documents, strict=True):
        if len(documents) > 1:
            parts.append(f'<h1 class="device">{escape(name)}</h1>')
        parts += _device(document)
    return html_frame(f"pocketseq bench · {first.bundle.title}", parts)


def _header(documents: Sequence[BenchDocument]) -> str:
    first = documents[0]
    where = first.device.label if len(documents) == 1 else f"{len(documents)} devices"
    rows = _measured(first)
    if len(documents) > 1 or not rows:
        sentence = _fastest(documents) or f"{first.bundle.title} on {where}."
    else:
        best = min(rows, key=lambda row: row.stages_ms["total"].p50)
        speed = fine_milliseconds(best.stages_ms["total"].p50)
        sentence = f"{best.label} answers in {speed} ms and takes {megabytes(best.size_bytes)} MB."
    made = f"{escape(first.bundle.title)} {escape(first.bundle.version)} · {escape(where)} · {escape(first.made_at)}"
    return f"<header>\n<p>{made}</p>\n<h1>{escape(sentence)}</h1>\n</header>"


def _fastest(documents: Sequence[BenchDocument]) -> str:
    """The fastest configuration of the first device, on all devices that have it."""
    rows = _measured(documents[0])
    if not rows:
        return ""
    best = min(rows, key=lambda row: row.stages_ms["total"].p50).label
    found = [(document, row) for document in documents if (row := document.row(best)) is not None and row.stages_ms]
    times = [f"{fine_milliseconds(row.stages_ms['total'].p50)} ms on {document.device.processor}" for document, row in found]
    return f"{best} answers in {', '.join(times[:-1])}{' and ' if times[1:] else ''}{times[-1]}."


def _measured(document: BenchDocument) -> list[Row]:
    return [row for row in document.rows if row.stages_ms]


def _device(document: BenchDocument) -> list[str]:
    rows = _measured(document)
    conduct = document.conduct
    noise = "" if conduct.quiet else f'<p class="note noisy">{escape(conduct.verdict)}.</p>'
    if not rows:
        return [noise, _problems(document), _footer(document)]
    rivals = [rivals_section(document.rivals)] if document.rivals else []
    return [noise, _tiles(rows), _table(document, rows), _plots(document, rows), *rivals, _footer(document)]


def _tiles(rows: Sequence[Row]) -> str:
    best = min(rows, key=lambda row: row.stages_ms["total"].p50)
    smallest = min(rows, key=lambda row: row.size_bytes)
    tiles = [
        (f"{fine_milliseconds(best.stages_ms['total'].p50)} ms", f"a suggestion, median, {best.label}"),
        (f"{fine_milliseconds(best.stages_ms['total'].p99)} ms", f"99 of 100 are faster than this, {best.label}"),
    ]
    start = start_ms(best)
    if start is not None:
        tiles.append((f"{milliseconds(start)} ms", "import, load and first suggestion in a fresh process"))
    tiles.append((f"{megabytes(smallest.size_bytes)} MB", f"on disk, {smallest.label}"))
    steady = best.memory.steady_bytes.value if best.memory else None
    if steady is not None:
        tiles.append((f"{steady / 1e6:.0f} MB", f"resident memory while it answers, {best.label}"))
    items = "\n".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(words)}</span></div>' for value, words in tiles)
    return f'<div class="tiles">\n{items}\n</div>'


def _table(document: BenchDocument, rows: Sequence[Row]) -> str:
    headings = "".join(f"<th>{escape(heading)}</th>" for heading in ("Configuration", *HEADINGS[1:]))
    body = "\n".join(
        f'<tr><td><span class="dot {escape(row.runtime)}"></span>{escape(row.label)}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells(row)[1:])
        + "</tr>"
        for row in rows
    )
    note = (
        f"{document.inputs.n} real inputs, one at a time, in turns; ± is the 95% interval, of the median and of the ratio: how "
        "many times as long as the first row it takes, round by round, which holds on a busy machine too. Start is import, load "
        "and first suggestion in a fresh process; ×8 is suggestions a second, eight at once."
    )
    return (
        f'<section>\n<h2>Every configuration</h2>\n<p class="note">{note}</p>\n<div class="card wide">\n<table>\n'
        f"<thead><tr>{headings}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n{_problems(document)}\n</section>"
    )


def _problems(document: BenchDocument) -> str:
    """What could not be measured, and why; where that is everything, it is all that there is to read."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in problem_lines(document))
    return f'<ul class="problems">{lines}</ul>' if lines else ""


def _plots(document: BenchDocument, rows: Sequence[Row]) -> str:
    cards = [
        html_card(
            "How long a suggestion takes",
            "The shape of all samples; the stroke is the median, the dot the 95th percentile.",
            distribution_plot(rows),
        ),
        html_card(
            "Where the time goes",
            "Medians of the stages of one suggestion; detokenize includes the confidence.",
            stage_plot(rows) + key([(f"part{number}", name) for number, (_, name) in enumerate(PARTS)]),
        ),
    ]
    few = on_fewer_inputs(document)
    judged = [
        row for row in rows if row.quality.get("exact_match") is not None and row.threads == rows[0].threads and row not in few
    ]
    if judged:
        points = [ParetoPoint(row.label, row.size_bytes, row.quality["exact_match"] or 0.0, kind=row.runtime) for row in judged]
        best = pareto_front(points)
        words = (
            f"Of {judged[0].quality_n} inputs. On the line nothing smaller is as good: {', '.join(point.label for point in best)}."
        )
        words += f" Left out, with fewer inputs: {', '.join(row.label for row in few)}." if few else ""
        cards.insert(0, html_card("Which to ship", words, pareto_plot(points)))
    if any(row.startup for row in rows):
        picture = start_plot(rows) + key([(f"part{number}", name) for number, (_, name) in enumerate(STARTS)])
        cards.append(html_card("From nothing to the first suggestion", _cold(rows), picture))
    return f'<section class="plots">\n{"".join(cards)}\n</section>'


def _cold(rows: Sequence[Row]) -> str:
    row = rows[0]
    warm = "Files in the page cache."
    if row.cold is None:
        return f"{warm} Not measured with the cache dropped: {row.cold_reason}."
    return (
        f"{warm} With them dropped from it, loading {row.label} takes {milliseconds(row.cold.load_ms.p50)} ms; {row.cold_reason}."
    )


def _devices(documents: Sequence[BenchDocument]) -> str:
    if not any(map(_measured, documents)):
        return ""
    labels = device_names(documents)
    names = [(f"device{number % 6}", label) for number, label in enumerate(labels)]
    words = "The same bundle and inputs." if _alike(documents) else "Bundles or inputs differ: compare with care."
    pairs = zip(labels, documents, strict=True)
    noisy = [label for label, document in pairs if not document.conduct.quiet and _measured(document)]
    words += f" Noisy: {', '.join(noisy)}." if noisy else ""
    return f'<section class="plots">\n{html_card("Devices side by side", words, device_plot(documents) + key(names))}\n</section>'


def _alike(documents: Sequence[BenchDocument]) -> bool:
    return len({(document.bundle.hash, document.inputs.hash) for document in documents}) == 1


def _footer(document: BenchDocument) -> str:
    body = "".join(f"<dt>{escape(term)}</dt><dd>{escape(words)}</dd>" for term, words in device_lines(document))
    quality = next((row for row in document.rows if row.quality), None)
    if quality is not None:
        measures = ", ".join(f"{name.replace('_', ' ')} {share(value)}" for name, value in quality.quality.items())
        body += f"<dt>Quality of {escape(quality.label)}</dt><dd>{escape(measures)}</dd>"
    return f"<footer>\n<h2>Where and how</h2>\n<dl>{body}</dl>\n</footer>"

"""The part of a run's report about its table of results, from what the stage ``table`` wrote into the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pocketseq.errors import DataError
from pocketseq.report.figures import megabytes, millions, milliseconds
from pocketseq_bench.report.courses import courses_of, courses_plot, courses_table, kind_of
from pocketseq_bench.report.tables import check_table, score_titles


def read_table(directory: Path) -> Mapping[str, Any] | None:
    """The table of a run on published data, or None where it is on other data.

    Raises:
        DataError: a file that is no table.
    """
    path = directory / "table.json"
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        check_table(found, str(path))
        protocol_section(found)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: expected a table of results, found no {error}; run the stage 'table' again") from None
    return found


def protocol_section(table: Mapping[str, Any] | None) -> str:
    """Every model by its task's protocol beside what others have published, what was to be reached, and how far training went.

    Nothing for a run without a table.
    """
    if table is None:
        return ""
    measures = [score["name"] for score in table["models"][0]["scores"]]
    titles = score_titles(measures, better=[score["better"] for score in table["models"][0]["scores"]])
    headings = "".join(f"<th>{escape(title)}</th>" for title in ("Model", "Parameters", "MB on disk", *titles, "ms p50"))
    rows = "\n".join([*map(_model, table["models"]), *(_published(row, measures) for row in table["published"])])
    way = f"as the published table of {table['task']} is ({table['protocol']})" if table["published"] else f"by {table['protocol']}"
    note = (
        f"All {table['test_rows']:,} test rows, scored {way}, decoded greedily; in brackets where 95% of the bootstrap "
        f"resamplings of rows lie. Times: in turns, on one thread. Data: {table['origin']}."
    )
    title = "By the published protocol" if table["published"] else "On the whole test split"
    return (
        f'<section>\n<h2>{title}</h2>\n<p class="note">{escape(note)}</p>\n<div class="card wide">\n<table>\n'
        f"<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</section>\n"
        f"{_reached(table)}"
    )


def _reached(table: Mapping[str, Any]) -> str:
    """What was to be reached beside how far training went."""
    courses = courses_of(table)
    plot, claims = courses_plot(courses), _claims(table["claims"])
    cards = [f'<section class="card">\n{plot}\n</section>'] if plot else []
    cards += [f'<section class="card wide">\n{claims}\n</section>'] if claims else []
    grid = "\n".join(['<div class="plots">', *cards, "</div>"]) if cards else ""
    return (
        '<section>\n<h2>How far training went, and what was reached</h2>\n<p class="note">Validation on held-out rows while '
        "training; the checkpoint that did best there was kept. A curve that is rising at its end asks for more updates.</p>\n"
        f"{grid}\n{courses_table(courses)}\n</section>"
    )


def _claims(claims: Sequence[Mapping[str, Any]]) -> str:
    if not claims:
        return ""
    wrong = '<span class="wrong">no</span>'
    rows = "\n".join(
        f"<tr><td>{escape(claim['what'])}</td><td>{escape(claim['wanted'])}</td><td>{escape(claim['found'])}</td>"
        f"<td>{'yes' if claim['holds'] else wrong}</td></tr>"
        for claim in claims
    )
    heads = "<th>The int8 student</th><th>Wanted</th><th>Found</th><th>Reached</th>"
    return f'<table class="reached">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>'


def _model(model: Mapping[str, Any]) -> str:
    kind = kind_of(model["name"])
    made = escape(f"{model['runtime']}, {model['precision']}")
    cells = [f'<span class="dot {kind}"></span>{escape(model["name"])}<small>{made}</small>']
    cells += [millions(model["parameters"]), megabytes(model["size_bytes"])]
    cells += [f"{score['value']:.1f}<small>[{score['low']:.1f}, {score['high']:.1f}]</small>" for score in model["scores"]]
    latency = model["latency_ms"]
    cells.append(milliseconds(latency["p50"] if latency else None))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _published(row: Mapping[str, Any], measures: list[str]) -> str:
    note = f"published, {row['note']}" if row["note"] else "published"
    cells = [f"{escape(row['system'])}<small>{escape(note)}</small>", "", ""]
    cells += [f"{row['scores'][name]:.1f}" if name in row["scores"] else "" for name in measures]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in (*cells, ''))}</tr>"

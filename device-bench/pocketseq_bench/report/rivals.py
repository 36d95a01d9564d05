"""Other libraries beside the SDK, from the JSON that ``pocketseq_bench.rivals`` writes; what it does not hold is left out."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pocketseq.report.figures import MISSING, count, share
from pocketseq_bench.report.bench_table import markdown_table

Rivals = Mapping[str, Any]


def rivals_markdown(rivals: Rivals) -> str:
    """Tokens a second by library and task, whether their answers are the same, and who was left out."""
    headings, rows = _table(rivals)
    lines = [markdown_table(headings, rows)] if rows else []
    excluded = [f"- left out: {line}" for line in _excluded(rivals)]
    lines += ["", *excluded] if excluded else []
    for other in rivals.get("others", ()):
        lines += ["", f"{_about(other)}:", "", markdown_table(*_table(other))]
    return "\n".join(["### Beside other libraries", "", *lines])


def rivals_section(rivals: Rivals) -> str:
    """The same as HTML."""
    excluded = "".join(f"<li>left out: {escape(line)}</li>" for line in _excluded(rivals))
    listed = f'<ul class="problems">{excluded}</ul>' if excluded else ""
    others = "".join(
        f'\n<p class="note">{escape(_about(other))}</p>\n{_html(*_table(other))}' for other in rivals.get("others", ())
    )
    note = (
        "The same checkpoint and inputs, in turns, in tokens a second; in brackets the share of answers that are the same as the "
        "reference's. No time is quoted where they are not."
    )
    return (
        f'<section>\n<h2>Beside other libraries</h2>\n<p class="note">{escape(note)}</p>\n{_html(*_table(rivals))}\n{listed}'
        f"{others}\n</section>"
    )


def _html(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="card wide">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>'


def _about(other: Rivals) -> str:
    layers = f"{other['encoder_layers']} layers in the encoder and {other['decoder_layers']} in the decoder"
    return f"The same on {other['name']}, a model of width {other['d_model']} with {layers}"


def compiling(rivals: Rivals) -> list[str]:
    """What contenders that compile took for that, in words."""
    words = "s of compiling before and between the times, and its start and memory in a fresh process"
    return [f"{name}: {seconds:.0f} {words}" for name, seconds in rivals.get("compile_s", {}).items()]


def _table(rivals: Rivals) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    tasks = rivals.get("tasks", [])
    names = dict.fromkeys(name for task in tasks for name in task.get("same_answers", {}))
    rows = [(name, *(_cell(task, name) for task in tasks)) for name in names]
    return ("tokens a second", *(str(task.get("name", "")) for task in tasks)), rows


def _cell(task: Mapping[str, Any], name: str) -> str:
    speed, same = task.get("tokens_per_s", {}).get(name), task.get("same_answers", {}).get(name)
    if same is None:
        return MISSING
    ratio = task.get("ours_over_theirs", {}).get(name)
    return f"{count(speed)} ({share(same)})" + (f", ours ×{ratio['wall_s']:.2f}" if ratio else "")


def _excluded(rivals: Rivals) -> list[str]:
    return [*compiling(rivals), *(f"{name}: {reason}" for name, reason in rivals.get("excluded", {}).items())]

"""Other libraries beside the SDK, from the JSON that ``pocketseq_bench.rivals`` writes; what it does not hold is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pocketseq.errors import DataError
from pocketseq.report.figures import MISSING, count, plus_minus, share
from pocketseq_bench.document import BenchDocument
from pocketseq_bench.intervals import Interval
from pocketseq_bench.pairing import ours_over_theirs
from pocketseq_bench.report.bench_table import markdown_table

Rivals = Mapping[str, Any]


def read_rivals(path: Path) -> dict[str, Any]:
    """Read a comparison, and make sure that a table can be made of it.

    Raises:
        DataError: not there, another document, or one that lacks something.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected the JSON of a comparison with other libraries, found none: {error}") from None
    if not isinstance(value, dict) or "tasks" not in value:
        raise DataError(f"{path}: expected the JSON of a comparison with other libraries, found another document")
    try:
        rivals_markdown(value)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected a comparison with other libraries, found one that no table can be made of ({error!r}); "
            "make it again with `python -m pocketseq_bench.rivals`"
        ) from None
    return value


def check_alike(rivals: Rivals, document: BenchDocument, *, where: str) -> None:
    """Make sure that a comparison is of a benchmark's bundle and machine, as far as it tells.

    Args:
        rivals: What ``read_rivals`` gave.
        document: The benchmark that it is to stand beside.
        where: Name for the message.

    Raises:
        DataError: it is of another bundle, or of another machine.
    """
    bundle, there, device = rivals.get("bundle", document.bundle.name), rivals.get("environment"), document.device
    expected = f"{document.bundle.name} on {_machine(device.processor or device.machine, device.extensions)}"
    found = None
    if there:
        found = f"{bundle} on {_machine(there['processor'] or there['machine'], there.get('extensions', device.extensions))}"
    if bundle != document.bundle.name or found not in (None, expected):
        raise DataError(
            f"{where}: expected a comparison of {expected}, as the first benchmark is, found one of {found or bundle}; make both "
            "on one machine, or merge without --rivals"
        )


def rivals_markdown(rivals: Rivals) -> str:
    """Tokens a second by library and task, whether their answers are the same, and who was left out."""
    headings, rows = _table(rivals)
    lines = [markdown_table(headings, rows)] if rows else []
    excluded = [f"- left out: {line}" for line in _excluded(rivals)]
    lines += ["", *excluded] if excluded else []
    for other in _others(rivals):
        lines += ["", f"{_about(other)}:", "", markdown_table(*_table(other))]
    return "\n".join([f"### {_title(rivals)}", "", *lines])


def rivals_section(rivals: Rivals) -> str:
    """The same as HTML."""
    excluded = "".join(f"<li>left out: {escape(line)}</li>" for line in _excluded(rivals))
    listed = f'<ul class="problems">{excluded}</ul>' if excluded else ""
    others = "".join(f'\n<p class="note">{escape(_about(other))}</p>\n{_html(*_table(other))}' for other in _others(rivals))
    note = (
        "The same checkpoint and inputs, in turns, in tokens a second; in brackets the share of answers that are the same as the "
        "reference's. No time is quoted where they are not. Ratios are medians over rounds, ± the farther end of the 95% interval."
    )
    return (
        f'<section>\n<h2>{escape(_title(rivals))}</h2>\n<p class="note">{escape(note)}</p>\n{_html(*_table(rivals))}\n{listed}'
        f"{others}\n</section>"
    )


def _title(rivals: Rivals) -> str:
    """With the machine, which the tables around it need not be of."""
    there = rivals.get("environment")
    return "Beside other libraries" + (f", on {there['processor'] or there['machine']}" if there else "")


def _machine(processor: str, extensions: Sequence[str]) -> str:
    return f"{processor} ({', '.join(extensions)})" if extensions else processor


def _html(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="card wide">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>'


def times_as_fast(ratio: Interval) -> str:
    """How many times as fast one is, and how well that is known; a single round does not tell."""
    return f"{ratio.value:.2f}" + (f" {plus_minus(ratio.spread)}" if ratio.spread else "")


def _others(rivals: Rivals) -> list[Rivals]:
    """The same tasks on other checkpoints, as their document has them."""
    return [{"format": rivals.get("format"), **other} for other in rivals.get("others", ())]


def _about(other: Rivals) -> str:
    layers = f"{other['encoder_layers']} layers in the encoder and {other['decoder_layers']} in the decoder"
    return f"The same on {other['name']}, a model of width {other['d_model']} with {layers}"


def compiling(rivals: Rivals) -> list[str]:
    """What contenders that compile took for that, in words."""
    words = "s of compiling before and between the times, and its start and memory in a fresh process"
    return [f"{name}: {seconds:.0f} {words}" for name, seconds in rivals.get("compile_s", {}).items()]


def _table(rivals: Rivals) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    tasks = [task for task in rivals.get("tasks", []) if not _unlike(rivals, task)]
    names = dict.fromkeys(name for task in tasks for name in task.get("same_answers", {}))
    rows = [(name, *(_cell(task, name) for task in tasks)) for name in names]
    return ("tokens a second", *(str(task.get("name", "")) for task in tasks)), rows


def _cell(task: Mapping[str, Any], name: str) -> str:
    speed, same = task.get("tokens_per_s", {}).get(name), task.get("same_answers", {}).get(name)
    if same is None:
        return MISSING
    ours = next(iter(task["same_answers"]))
    ratio = ours_over_theirs(ours, task.get("runs", {}), task.get("tokens", {})).get(name)
    return f"{count(speed)} ({share(same)})" + (f", ours ×{times_as_fast(ratio['wall_s'])}" if ratio else "")


def _unlike(rivals: Rivals, task: Mapping[str, Any]) -> bool:
    """Whether a task was other work for us than for the others: a forced length was, in the first format."""
    return rivals.get("format") == 1 and bool(task.get("forced_tokens"))


def _excluded(rivals: Rivals) -> list[str]:
    unlike = [task["name"] for task in rivals.get("tasks", []) if _unlike(rivals, task)]
    why = "an earlier version timed it without text and confidence where it was ours, and with text where it was the others'"
    return [
        *(f"{name}: {why}" for name in unlike),
        *compiling(rivals),
        *(f"{name}: {reason}" for name, reason in rivals.get("excluded", {}).items()),
    ]

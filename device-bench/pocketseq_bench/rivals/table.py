"""The comparison as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pocketseq_bench.intervals import Interval
from pocketseq_bench.report.rivals import compiling, times_as_fast


def write_table(found: Mapping[str, Any]) -> str:
    """Write a comparison for people.

    Args:
        found: What ``compare`` gave.
    """
    lines = [f"{found['bundle']}, int8, {found['threads']} thread(s), medians of {found['rounds']} runs in turns", ""]
    lines += [*_tasks(found["tasks"]), ""]
    if drafts := found["drafts"]:
        speed = drafts["tokens_per_s"]
        times, same = f"{_told(drafts['drafted_over_plain'])} times as fast", f"{drafts['same_answers']:.0%} the same answers"
        lines += [f"drafts from the input: {speed['drafted']:.0f} tokens/s, {speed['plain']:.0f} without: {times}, {same}", ""]
    heads = ("contender", "first answer, s", "ours over theirs", "serving, MB")
    processes = [
        (name, f"{start['median']:.2f}", _told(start["ours_over_theirs"]), f"{found['serving_bytes'][name] / 1e6:.0f}")
        for name, start in found["start_s"].items()
    ]
    lines += [*_columns(heads, processes), ""]
    lines += [f"left out: {line}" for line in compiling(found)]
    lines += [f"left out: {name}: {reason}" for name, reason in found["excluded"].items()]
    for other in found.get("others", ()):
        layers = f"{other['encoder_layers']} and {other['decoder_layers']} layers"
        lines += ["", f"{other['name']}: width {other['d_model']}, {layers}", "", *_tasks(other["tasks"])]
    return "\n".join(lines)


def _tasks(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ("task", "contender", "same answers", "tokens/s", "ours over theirs", "by processor time")
    rows: list[Sequence[str]] = []
    for task in tasks:
        for name, same in task["same_answers"].items():
            speed = task["tokens_per_s"].get(name)
            ratio = task["ours_over_theirs"].get(name, {})
            rows.append(
                (
                    task["name"],
                    name,
                    f"{same:.0%}",
                    f"{speed:.0f}" if speed else "not quoted: other answers",
                    _told(ratio["wall_s"]) if ratio else "",
                    _told(ratio["cpu_s"]) if ratio else "",
                )
            )
    return _columns(head, rows)


def _told(ratio: Mapping[str, float]) -> str:
    return times_as_fast(Interval(**ratio))


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]

"""Pictures of a benchmark: latency distributions, where the time goes, and devices side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np

from pocketseq.report.drawing import Scale, dot, line, path, picture, power_steps, round_steps, text
from pocketseq.report.figures import fine_milliseconds, milliseconds
from pocketseq_bench.document import BenchDocument
from pocketseq_bench.row import Row, Samples

WIDTH: Final = 560
LEFT: Final = 136
ROOM: Final = 54
"""Height of one row."""
BINS: Final = 72
PARTS: Final = (("tokenize", "tokenize"), ("encode", "encode"), ("decode", "decode"), ("detokenize", "detokenize"))
STARTS: Final = (("import_ms", "import"), ("load_ms", "load"), ("first_ms", "first suggestion"))


def distribution_plot(rows: Sequence[Row]) -> str:
    """How long suggestions took, configuration by configuration: the shape of all samples, median and 95th percentile."""
    totals = [(row, row.stages_ms["total"]) for row in rows]
    lows = [float(np.percentile(_flat(samples), 1)) for _, samples in totals]
    ticks = power_steps(min(lows) * 0.95, max(samples.p99 for _, samples in totals) * 1.02)
    height = 12 + ROOM * len(totals) + 46
    bottom = height - 46
    x = Scale(ticks[0], ticks[-1], LEFT, WIDTH - 16, logarithmic=True)
    shapes = [line(x(tick), 8, x(tick), bottom, "grid") for tick in ticks]
    shapes += [text(x(tick), bottom + 18, f"{tick:g}", "tick middle") for tick in ticks]
    shapes.append(text((x.start + x.stop) / 2, height - 8, "milliseconds for one suggestion", "label middle"))
    for index, (row, samples) in enumerate(totals):
        centre = 12 + ROOM * (index + 0.5) + 6
        shapes.append(text(LEFT - 12, centre + 4, row.label, "tick end"))
        shapes.append(_shape(_flat(samples), x, centre, row.runtime))
        shapes.append(line(x(samples.p50), centre - 12, x(samples.p50), centre + 12, "median"))
        shapes.append(dot(x(samples.p95), centre, f"mark {row.runtime} far", radius=4))
        shapes.append(text(x(samples.p50), centre - 17, fine_milliseconds(samples.p50), "strong middle"))
        shapes.append(text(x(samples.p95) + 8, centre + 4, fine_milliseconds(samples.p95), "label start"))
    return picture(WIDTH, height, "Latency distributions", shapes)


def stage_plot(rows: Sequence[Row]) -> str:
    """Where the time of one suggestion goes: the median of each stage, one after another."""
    bars = [(row.label, [(name, row.stages_ms[key].p50) for key, name in PARTS if key in row.stages_ms]) for row in rows]
    return _stacked(bars, "milliseconds, median of each stage", "Where the time of a suggestion goes")


def start_plot(rows: Sequence[Row]) -> str:
    """What a fresh process waits for, one after another."""
    bars = [(row.label, [(name, getattr(row.startup, key).p50) for key, name in STARTS]) for row in rows if row.startup is not None]
    return _stacked(bars, "milliseconds, median of fresh processes", "From nothing to the first suggestion")


def device_plot(documents: Sequence[BenchDocument]) -> str:
    """Median and 95th percentile of each configuration, device by device; at least one was measured."""
    labels = list(dict.fromkeys(row.label for document in documents for row in document.rows if row.stages_ms))
    points = [
        (labels.index(row.label), number, row.stages_ms["total"])
        for number, document in enumerate(documents)
        for row in document.rows
        if row.stages_ms
    ]
    ticks = power_steps(min(samples.p50 for *_, samples in points) * 0.95, max(samples.p95 for *_, samples in points) * 1.02)
    room = 22 * len(documents) + 16
    height = 12 + room * len(labels) + 46
    bottom = height - 46
    x = Scale(ticks[0], ticks[-1], LEFT, WIDTH - 40, logarithmic=True)
    shapes = [line(x(tick), 8, x(tick), bottom, "grid") for tick in ticks]
    shapes += [text(x(tick), bottom + 18, f"{tick:g}", "tick middle") for tick in ticks]
    shapes.append(text((x.start + x.stop) / 2, height - 8, "milliseconds for one suggestion, p50 to p95", "label middle"))
    for index, label in enumerate(labels):
        shapes.append(text(LEFT - 12, 12 + room * (index + 0.5) + 4, label, "tick end"))
        if index:
            shapes.append(line(LEFT - 120, 12 + room * index, WIDTH - 16, 12 + room * index, "grid"))
    for index, number, samples in points:
        y = 12 + room * index + 8 + 22 * (number + 0.5)
        kind = f"device{number % 6}"
        shapes.append(line(x(samples.p50), y, x(samples.p95), y, f"range {kind}"))
        shapes.append(dot(x(samples.p50), y, f"mark {kind}", radius=5))
        shapes.append(text(x(samples.p95) + 8, y + 4, fine_milliseconds(samples.p50), "label start"))
    return picture(WIDTH, height, "Devices side by side", shapes)


def key(entries: Sequence[tuple[str, str]]) -> str:
    """What the colours mean: a class and its words each."""
    items = "".join(f'<li><i class="swatch {kind}"></i>{escape(words)}</li>' for kind, words in entries)
    return f'<ul class="key">{items}</ul>'


def _flat(samples: Samples) -> list[float]:
    return [ms for turn in samples.rounds for ms in turn]


def _shape(values: Sequence[float], x: Scale, centre: float, kind: str) -> str:
    """The samples as an area that is thick where many lie; smoothed, between the 1st and the 99th percentile."""
    low, high = np.log10(np.percentile(values, (1, 99)))
    edges = np.linspace(low - 1e-6, max(high, low + 0.01), max(6, min(BINS, len(values) // 4)) + 1)
    counts, _ = np.histogram(np.clip(np.log10(values), edges[0], edges[-1]), bins=edges)
    smooth = np.convolve(np.pad(counts.astype(float), 2, mode="edge"), [1, 3, 4, 3, 1], mode="valid")
    heights = 13 * smooth / smooth.max()
    places = [x(10 ** float(middle)) for middle in (edges[:-1] + edges[1:]) / 2]
    upper = [(place, round(centre - float(height), 2)) for place, height in zip(places, heights, strict=True)]
    lower = [(place, round(centre + float(height), 2)) for place, height in zip(places, heights, strict=True)]
    return path([*upper, *reversed(lower)], f"area {kind}")


def _stacked(bars: Sequence[tuple[str, Sequence[tuple[str, float]]]], words: str, title: str) -> str:
    ticks = round_steps(max(sum(value for _, value in parts) for _, parts in bars) * 1.08, at_most=6)
    height = 12 + 40 * len(bars) + 46
    bottom = height - 46
    x = Scale(0, ticks[-1], LEFT, WIDTH - 52)
    shapes = [line(x(tick), 8, x(tick), bottom, "grid") for tick in ticks]
    shapes += [text(x(tick), bottom + 18, f"{tick:g}", "tick middle") for tick in ticks]
    shapes.append(text((x.start + x.stop) / 2, height - 8, words, "label middle"))
    for index, (label, parts) in enumerate(bars):
        centre = 12 + 40 * (index + 0.5)
        shapes.append(text(LEFT - 12, centre + 4, label, "tick end"))
        done = 0.0
        for number, (name, value) in enumerate(parts):
            left, right = x(done), x(done + value)
            shapes.append(
                f'<rect class="part{number}" x="{left}" y="{centre - 11}" width="{max(0.0, round(right - left, 2))}" height="22">'
                f"<title>{escape(name)}: {fine_milliseconds(value)} ms</title></rect>"
            )
            if right - left > 34:
                shapes.append(text((left + right) / 2, centre + 4, fine_milliseconds(value), "inside middle"))
            done += value
        shapes.append(text(x(done) + 8, centre + 4, milliseconds(done), "strong start"))
    return picture(WIDTH, height, title, shapes)

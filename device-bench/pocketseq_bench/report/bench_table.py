"""A benchmark as tables: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pocketseq.report.figures import MISSING, count, fine_milliseconds, megabytes, milliseconds, plus_minus, share
from pocketseq_bench.document import BenchDocument, Conduct
from pocketseq_bench.report.terminal import text_table
from pocketseq_bench.row import Reading, Row

HEADINGS: Final = (
    "",
    "MB",
    "exact match",
    "ms p50",
    "±",
    "ratio",
    "p95",
    "p99",
    "ms/token",
    "start ms",
    "memory MB",
    "per s ×8",
    "cpu ms",
)
STAGES: Final = ("tokenize", "encode", "decode", "detokenize")


def bench_table(document: BenchDocument) -> str:
    """The table, the machine's conduct, and what could not be measured."""
    lines = [text_table(HEADINGS, [cells(row) for row in document.rows if row.stages_ms])]
    lines += [f"{row.label}: {row.status}: {row.problem}" for row in document.rows if row.problem] + caution_lines(document)
    lines += ["", f"{document.device.label}: {document.conduct.verdict}"]
    late = [row.label for row in document.rows if row.stop == "time"]
    if late:
        lines.append(
            f"time was up before the median was known within {share(document.settings.get('tolerance'))}: {', '.join(late)}"
        )
    return "\n".join(lines)


def bench_markdown(documents: Sequence[BenchDocument]) -> str:
    """One or more benchmarks as Markdown, generated from their JSON."""
    parts = [f"# {documents[0].bundle.title}: measured on {len(documents)} device{'s' if len(documents) > 1 else ''}"]
    if len(documents) > 1:
        parts.append(devices_table(documents))
    for name, document in zip(device_names(documents), documents, strict=True):
        parts += [f"## {name}", *_sections(document)]
    return "\n\n".join(parts) + "\n"


def devices_table(documents: Sequence[BenchDocument]) -> str:
    """Median of one suggestion, by configuration and device."""
    labels = list(dict.fromkeys(row.label for document in documents for row in document.rows))
    headings = ("ms p50", *device_names(documents))
    table = []
    for label in labels:
        rows = [document.row(label) for document in documents]
        table.append((label, *(_median(row) for row in rows)))
    return markdown_table(headings, table)


def device_names(documents: Sequence[BenchDocument]) -> list[str]:
    """Names of the devices; those that are alike are numbered."""
    labels = [document.device.label for document in documents]
    return [
        f"{label}, no. {labels[: place + 1].count(label)}" if labels.count(label) > 1 else label
        for place, label in enumerate(labels)
    ]


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table."""
    total, token = row.stages_ms.get("total"), row.stages_ms.get("per_token")
    eight = next((found.per_second for found in row.throughput if found.batch == 8), None)
    steady = row.memory.steady_bytes.value if row.memory else None
    return (
        row.label,
        megabytes(row.size_bytes),
        share(row.quality.get("exact_match")),
        fine_milliseconds(total.p50 if total else None),
        plus_minus(row.spread),
        ratio(row),
        fine_milliseconds(total.p95 if total else None),
        fine_milliseconds(total.p99 if total else None),
        fine_milliseconds(token.p50 if token else None),
        milliseconds(start_ms(row)),
        MISSING if steady is None else f"{steady / 1e6:.0f}",
        count(eight),
        fine_milliseconds(row.cpu_ms),
    )


def ratio(row: Row) -> str:
    """How many times as long as the reference it takes, and how well that is known; the reference by itself has no interval."""
    found = row.relative
    if found.value is None:
        return MISSING
    return f"{found.value:.2f}" + (f" {plus_minus(found.spread)}" if found.spread else "")


def start_ms(row: Row) -> float | None:
    """Import, load and first suggestion together."""
    return row.startup.import_ms.p50 + row.startup.load_ms.p50 + row.startup.first_ms.p50 if row.startup else None


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its first column to the left and numbers to the right."""
    lines = [f"| {' | '.join(headings)} |", f"|---|{'--:|' * (len(headings) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)])


def device_lines(document: BenchDocument) -> list[tuple[str, str]]:
    """The device, and how it behaved, as terms and their words."""
    device, conduct, inputs = document.device, document.conduct, document.inputs
    cores = f"{device.physical_cores or '?'} cores, {device.logical_cores} usable by this process"
    memory = "" if device.memory_bytes is None else f", {device.memory_bytes / 1e9:.1f} GB of memory"
    harness = conduct.harness_overhead
    lines = [
        ("Machine", f"{device.processor}, {device.machine}, {cores}{memory}, {device.os}"),
        ("Instruction sets", ", ".join(device.extensions) or "the system does not tell"),
        ("Power", told(device.power_mode, "{:.0f}", words=("on battery", "on mains"))),
        ("Software", f"Python {device.python}, " + ", ".join(f"{name} {version}" for name, version in device.libraries.items())),
        ("Bundle", f"{document.bundle.name} {document.bundle.version}, {document.bundle.hash}"),
        ("Inputs", f"{inputs.n} from {inputs.origin}, {inputs.hash}" + ("" if inputs.labelled else "; without true answers")),
        ("Machine's conduct", f"{conduct.verdict} ({conduct.seconds:.0f} s{', resumed' if conduct.resumed else ''})"),
        (
            "Temperature",
            f"{told(conduct.before.temperature_c, '{:.0f} °C')} before, {told(conduct.after.temperature_c, '{:.0f} °C')} after",
        ),
        (
            "Frequency",
            f"{told(conduct.before.frequency_mhz, '{:.0f} MHz')} before, {told(conduct.after.frequency_mhz, '{:.0f} MHz')} after",
        ),
        ("Ratios", _reference(document)),
        ("Harness", MISSING if harness is None else f"adds {100 * harness:.2f}% to a bare loop{_at_most(conduct)}"),
    ]
    energy = next((row.energy_mj for row in document.rows if row.stages_ms), None)
    if energy is not None:
        lines.append(("Energy", energy.reason))
    return lines


def _reference(document: BenchDocument) -> str:
    """What the ratios are against."""
    found = [row.relative for row in document.rows if row.relative.value is not None]
    words = ", or ".join(dict.fromkeys(relative.reason for relative in found))
    return f"{words}; the median over rounds and its 95% interval" if found else MISSING


def _at_most(conduct: Conduct) -> str:
    most = conduct.harness_overhead_at_most
    return "" if most is None else f", at most {100 * most:.2f}% (95% interval)"


def told(reading: Reading, form: str, *, words: tuple[str, str] | None = None) -> str:
    """A reading in words, or why there is none."""
    if reading.value is None:
        return reading.reason
    said = words[int(reading.value)] if words else form.format(reading.value)
    return f"{said} ({reading.reason})" if words and reading.reason else said


def on_fewer_inputs(document: BenchDocument) -> list[Row]:
    """Rows whose quality rests on fewer inputs than that of others."""
    most = max((row.quality_n for row in document.rows), default=0)
    return [row for row in document.rows if row.quality and row.quality_n < most]


def caution_lines(document: BenchDocument) -> list[str]:
    """What cannot be held against the other rows: quality on fewer inputs, and times of another time."""
    lines = [
        f"{row.label}: its quality is that of {row.quality_n} inputs, fewer than the others answered: not to be held against theirs"
        for row in on_fewer_inputs(document)
    ]
    apart = [row for row in document.rows if row.stages_ms and row.relative.value is None]
    return lines + [f"{row.label}: no ratio: {row.relative.reason}" for row in apart]


def problem_lines(document: BenchDocument) -> list[str]:
    """What could not be measured, or not well enough."""
    lines = [f"{row.label}: {row.status}: {row.problem}" for row in document.rows if row.problem] + caution_lines(document)
    late = f"before the median was known within {share(document.settings.get('tolerance'))}"
    lines += [f"{row.label}: the time was up at {plus_minus(row.spread)}, {late}" for row in document.rows if row.stop == "time"]
    return lines


def _sections(document: BenchDocument) -> list[str]:
    measured = [row for row in document.rows if row.stages_ms]
    parts = [markdown_table(HEADINGS, [cells(row) for row in measured])]
    stages = [(row.label, *(fine_milliseconds(row.stages_ms[name].p50) for name in STAGES), _forced(row)) for row in measured]
    parts.append(markdown_table(("ms p50", *STAGES, "forced length"), stages))
    batches = sorted({found.batch for row in measured for found in row.throughput})
    if batches:
        table = []
        for row in measured:
            by_batch = {found.batch: found.per_second for found in row.throughput}
            table.append((row.label, *(count(by_batch.get(batch)) for batch in batches)))
        parts.append(markdown_table(("suggestions a second", *(f"batch {batch}" for batch in batches)), table))
    parts += [
        f"{row.label}, {row.sustained.minutes:g} min without a pause: the last quarter took "
        f"{row.sustained.slowdown:.2f} times as long as the first."
        for row in measured
        if row.sustained
    ]
    parts += ["\n".join(f"- {line}" for line in problem_lines(document))] if problem_lines(document) else []
    parts.append("\n".join(f"- **{term}**: {words}" for term, words in device_lines(document)))
    return parts


def _forced(row: Row) -> str:
    return MISSING if row.forced is None else f"{fine_milliseconds(row.forced.total_ms.p50)} for {row.forced.tokens} tokens"


def _median(row: Row | None) -> str:
    if row is None:
        return MISSING
    return fine_milliseconds(row.stages_ms["total"].p50) if row.stages_ms else row.status

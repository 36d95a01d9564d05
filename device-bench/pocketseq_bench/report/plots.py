"""The report's two plots: risk against coverage, and latency."""

from __future__ import annotations

from typing import Final

from pocketseq.report.drawing import Scale, dot, line, picture, power_steps, text
from pocketseq.report.figures import milliseconds
from pocketseq.report.risk_coverage import curve_plot, risk_coverage
from pocketseq_bench.report.findings import Findings, HybridFindings

WIDTH: Final = 560
HEIGHT: Final = 320


def risk_coverage_plot(hybrid: HybridFindings, *, by_likeness: bool = False) -> str:
    """Share of wrong answers among those served locally, for every share served.

    Args:
        hybrid: What was measured.
        by_likeness: Whether an answer loses 1 less its chrF, in place of all or nothing.
    """
    return curve_plot(
        risk_coverage(hybrid.confidences, hybrid.likeness if by_likeness else hybrid.correct),
        "Risk against coverage on the test split",
        risk=hybrid.risk,
        served=hybrid.coverage,
        lost="of chrF lost" if by_likeness else "wrong",
    )


def latency_plot(findings: Findings) -> str:
    """Median and 95th percentile of one suggestion, for each model and for both together, on a logarithmic scale."""
    bars = [(_label(model.name, model.runtime), model.name, model.p50_ms, model.p95_ms) for model in findings.models]
    bars.append(("hybrid", "hybrid", findings.hybrid.p50_ms, findings.hybrid.p95_ms))
    measured = [(label, name, p50, p95) for label, name, p50, p95 in bars if p50 is not None and p95 is not None]
    ticks = power_steps(min(p50 for _, _, p50, _ in measured), max(p95 for _, _, _, p95 in measured))
    x = Scale(ticks[0], ticks[-1], 148, WIDTH - 56, logarithmic=True)
    room = (HEIGHT - 46 - 12) / len(measured)
    shapes = [line(x(tick), 12, x(tick), HEIGHT - 46, "grid") for tick in ticks]
    shapes += [text(x(tick), HEIGHT - 28, f"{tick:g}", "tick middle") for tick in ticks]
    shapes.append(text(x.start + (x.stop - x.start) / 2, HEIGHT - 8, "milliseconds for one suggestion, p50 to p95", "label middle"))
    for index, (label, name, p50, p95) in enumerate(measured):
        kind = "student" if name.startswith("student") else name
        centre = round(12 + room * (index + 0.5), 2)
        shapes.append(text(136, centre + 4, label, "tick end"))
        shapes.append(line(x(p50), centre, x(p95), centre, f"range {kind}"))
        shapes.append(dot(x(p95), centre, f"mark {kind} far", radius=4))
        shapes.append(dot(x(p50), centre, f"mark {kind}", radius=6))
        shapes.append(text(x(p50), centre - 12, milliseconds(p50), "strong middle"))
        shapes.append(text(x(p95) + 10, centre + 4, milliseconds(p95), "label start"))
    return picture(WIDTH, HEIGHT, "Latency of one suggestion", shapes)


def _label(name: str, runtime: str) -> str:
    return f"{name} · {runtime}"

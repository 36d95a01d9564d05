"""The report's two plots: risk against coverage, and latency."""

from __future__ import annotations

from typing import Final

from pocketseq_bench.report.drawing import Scale, dot, line, path, picture, power_steps, round_steps, text
from pocketseq_bench.report.figures import milliseconds, share
from pocketseq_bench.report.findings import Findings, HybridFindings
from pocketseq_bench.report.risk_coverage import risk_coverage

WIDTH: Final = 560
HEIGHT: Final = 320


def risk_coverage_plot(hybrid: HybridFindings) -> str:
    """Share of wrong answers among those served locally, for every share served."""
    curve = risk_coverage(hybrid.confidences, hybrid.correct)
    highest = max(*curve.risk, curve.base_risk, hybrid.risk or 0.0, 0.02)
    ticks = round_steps(min(highest * 1.08, 1.0), at_most=5)
    x = Scale(0, 1, 44, WIDTH - 22)
    y = Scale(0, ticks[-1], HEIGHT - 46, 18)
    shapes = [line(x(0), y(tick), x(1), y(tick), "grid") for tick in ticks]
    shapes += [text(x(0) - 8, y(tick) + 4, f"{100 * tick:g}%", "tick end") for tick in ticks]
    shapes += [text(x(tick / 4), y(0) + 18, f"{25 * tick}%", "tick middle") for tick in range(5)]
    shapes.append(text(x(0.5), HEIGHT - 8, "coverage: share of suggestions answered on the device", "label middle"))
    shapes.append(line(x(0), y(curve.base_risk), x(1), y(curve.base_risk), "series chance"))
    shapes.append(text(x(0) + 6, y(curve.base_risk) - 6, f"all served: {share(curve.base_risk)} wrong", "label start"))
    shapes.append(path(zip(map(x, (0.0, *curve.coverage)), map(y, (0.0, *curve.oracle_risk)), strict=True), "series oracle"))
    shapes.append(path(zip(map(x, curve.coverage), map(y, curve.risk), strict=True), "series student"))
    if hybrid.risk is not None:
        shapes.append(line(x(0), y(hybrid.risk), x(1), y(hybrid.risk), "series promise"))
        shapes.append(text(x(0) + 6, y(hybrid.risk) - 6, f"promised: at most {share(hybrid.risk)}", "label start"))
    if hybrid.coverage > 0:
        served = curve.at(hybrid.coverage)
        shapes.append(dot(x(hybrid.coverage), y(served), "mark student"))
        side = "end" if hybrid.coverage > 0.65 else "start"
        words = f"{share(hybrid.coverage)} served, {share(served)} wrong"
        shift = -10 if side == "end" else 10
        shapes.append(text(x(hybrid.coverage) + shift, y(served) + 18, words, f"strong {side}"))
    return picture(WIDTH, HEIGHT, "Risk against coverage on the test split", shapes)


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

"""The page of a calibration: what is promised, how sure the numbers are, and what it costs; one file that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from pocketseq.calibration.calibrated import Calibrated, confidences_of, losses_of
from pocketseq.calibration.measures import (
    Array,
    Interval,
    Reliability,
    aurc,
    brier,
    deferral_area,
    excess_aurc,
    interval,
    reliability,
    resamplings,
    separation,
)
from pocketseq.calibration.plots import gains_plot, reliability_plot, risk_band
from pocketseq.confidence import LEARNED, sigmoid
from pocketseq.report.figures import MISSING, decimal, milliseconds, share
from pocketseq.report.frame import html_card, html_frame
from pocketseq.report.risk_coverage import curve_plot, risk_coverage

_KEY: Final = (
    '<ul class="key"><li><i></i>by confidence</li><li><i class="oracle"></i>perfect confidence</li>'
    '<li><i class="chance"></i>at random: everything served</li><li><i class="promise"></i>promise</li></ul>'
)


@dataclass(frozen=True, slots=True)
class ScorerMeasures:
    """One scorer on the rows that tested."""

    gain: Interval
    """Area of the deferral curve over chance."""
    aurc: Interval
    """Area under the risk–coverage curve."""
    excess_aurc: float
    """The same above a perfect confidence."""
    auroc: Interval | None
    """How well it separates right from wrong; None for losses by degrees, or where all are alike."""
    brier: float
    """Mean squared error of the confidence as a probability."""
    reliability: Reliability
    """Confidence against truth."""


def measure(found: Calibrated, name: str, weights: Array) -> ScorerMeasures:
    """Measure one scorer on the rows that tested, with bootstrap intervals.

    Args:
        found: The calibration.
        name: A key of its scorers.
        weights: What ``resamplings`` gave for those rows.
    """
    confidences, losses = confidences_of(found.tested, found.scorers[name]), losses_of(found.tested)
    gains = np.array([answer.loss - answer.cloud_loss for answer in found.tested])
    separable = bool(np.isin(losses, (0, 1)).all()) and 0 < losses.mean() < 1
    return ScorerMeasures(
        gain=interval(lambda counts: deferral_area(confidences, gains, counts), weights),
        aurc=interval(lambda counts: aurc(confidences, losses, counts), weights),
        excess_aurc=excess_aurc(confidences, losses),
        auroc=interval(lambda counts: separation(confidences, losses, counts), weights) if separable else None,
        brier=brier(confidences, losses),
        reliability=reliability(confidences, losses),
    )


def calibration_page(
    found: Calibrated, *, title: str, cloud_ms: float | None = None, cloud_price: float | None = None, seed: int = 0
) -> str:
    """The calibration as HTML.

    Args:
        found: What ``calibrate`` gave, or what an ``InfeasibleRiskError`` carries.
        title: Bundle and variant.
        cloud_ms: What a cloud answer takes; None leaves it out of the costs.
        cloud_price: What 1,000 cloud answers cost; None leaves it out.
        seed: Seed of the bootstrap.
    """
    weights = resamplings(len(found.tested), seed=seed)
    measures = {name: measure(found, name, weights) for name in found.scorers}
    parts = [
        _header(found, title),
        _tiles(found, measures[found.calibration.scorer]),
        _curves(found, measures[found.calibration.scorer], weights),
        f'<section class="plots">\n{_gains(found, measures)}{_costs(found, weights, cloud_ms, cloud_price)}</section>',
        _scorers(found, measures),
        _footer(found),
    ]
    return html_frame(f"pocketseq calibrate · {title}", parts)


def _header(found: Calibrated, title: str) -> str:
    calibration = found.calibration
    if calibration.feasible:
        sentence = f"{share(calibration.coverage)} of suggestions can be served locally: {calibration.promise}."
    else:
        sentence = f"No threshold keeps the promise that {calibration.promise}."
        if found.smallest_risk is not None:
            sentence += (
                f" The smallest risk that these rows can show is {share(found.smallest_risk)}, "
                f"with {share(found.smallest_coverage)} served."
            )
    return f"<header>\n<p>{escape(title)} · calibration</p>\n<h1>{escape(sentence)}</h1>\n</header>"


def _tiles(found: Calibrated, chosen: ScorerMeasures) -> str:
    calibration = found.calibration
    right = (
        "right, among those served" if found.calibration.guarantee != "conformal" else "right, among those served (not promised)"
    )
    threshold = f"{calibration.threshold:.3f}" if calibration.feasible else MISSING
    tiles = [
        (share(calibration.accuracy), right),
        (share(1 - found.base_risk), "right, were everything served"),
        (share(found.largest_coverage), "could be served at this risk by a perfect confidence"),
        (threshold, f"threshold of the scorer {calibration.scorer}"),
        (decimal(chosen.auroc.value if chosen.auroc else None), "AUROC: how well confidence separates right from wrong"),
    ]
    cells = "\n".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(words)}</span></div>' for value, words in tiles)
    return f'<div class="tiles">\n{cells}\n</div>'


def _curves(found: Calibrated, chosen: ScorerMeasures, weights: Array) -> str:
    calibration = found.calibration
    confidences, losses = confidences_of(found.tested, found.scorers[calibration.scorer]), losses_of(found.tested)
    curve = curve_plot(
        risk_coverage(confidences.tolist(), (1 - losses).tolist()),
        "Risk against coverage on the rows that tested",
        risk=None if calibration.guarantee == "conformal" else calibration.risk,
        served=calibration.coverage,
        band=risk_band(confidences, losses, weights),
    )
    cards = [
        html_card(
            "When to trust the device",
            f"On the {calibration.n} rows that tested the threshold. The band holds the curve in 95 of 100 resamplings.",
            f"{curve}\n{_KEY}",
        ),
        html_card(
            "Whether the confidence means what it says",
            f"{len(chosen.reliability.rows)} bins of as many answers each, with 95% intervals; on the dashed line a confidence is "
            f"the share that is right. Expected calibration error {share(chosen.reliability.ece)}, Brier score {chosen.brier:.3f}. "
            "The promise does not rest on it: the threshold is tested, whatever the numbers mean.",
            reliability_plot(chosen.reliability),
        ),
    ]
    return f'<section class="plots">\n{"".join(cards)}</section>'


def _costs(found: Calibrated, weights: Array, cloud_ms: float | None, cloud_price: float | None) -> str:
    calibration = found.calibration
    confidences, losses = confidences_of(found.tested, found.scorers[calibration.scorer]), losses_of(found.tested)
    served = confidences >= calibration.threshold
    latencies = np.array([answer.latency_ms for answer in found.tested])
    deferred = float(1 - served.mean())

    def of_1000(rows: Array) -> str:
        low, high = np.percentile(1000 * (weights @ rows) / weights.sum(axis=1), (2.5, 97.5))
        return f"{1000 * rows.mean():.0f} <small>({low:.0f}–{high:.0f})</small>"

    def p50_p95(times: Array) -> str:
        return f"{milliseconds(float(np.percentile(times, 50)))} ms, {milliseconds(float(np.percentile(times, 95)))} ms"

    entries = [
        ("served locally, of 1,000", of_1000(served.astype(float))),
        ("served locally and wrong, of 1,000", of_1000(served * losses)),
        ("handed to the cloud, of 1,000", of_1000((~served).astype(float))),
        ("local answer, p50 and p95", p50_p95(latencies)),
    ]
    if cloud_ms is not None:
        whole = latencies + cloud_ms * ~served
        entries.append((f"with a cloud of {milliseconds(cloud_ms)} ms behind it, p50 and p95", p50_p95(whole)))
        entries.append(
            ("on average, and were the cloud asked always", f"{milliseconds(float(whole.mean()))} ms, {milliseconds(cloud_ms)} ms")
        )
    if cloud_price is not None:
        entries.append(
            ("cost of 1,000 suggestions, and were the cloud asked always", f"{deferred * cloud_price:.4g}, {cloud_price:.4g}")
        )
    rows = "\n".join(f"<tr><td>{escape(words)}</td><td>{value}</td></tr>" for words, value in entries)
    return html_card(
        "What it costs at the threshold",
        "Times as this machine took them while calibrating, one at a time; ranges hold in 95 of 100 resamplings.",
        f'<table class="costs">\n<tbody>\n{rows}\n</tbody>\n</table>',
    )


def _gains(found: Calibrated, measures: dict[str, ScorerMeasures]) -> str:
    by_teacher = any(answer.cloud_loss for answer in found.tested)
    price = found.price()
    cloud = "the teacher as the cloud" if by_teacher else "a cloud that is always right"
    return html_card(
        "What each scorer gains",
        f"Area of the deferral curve over handing over at random, with {cloud}, on the rows that tested; the scorer was chosen on "
        f"others.{'' if price is None else f' {price[0].upper()}{price[1:]}.'}",
        gains_plot({name: one.gain for name, one in measures.items()}, found.calibration.scorer),
    )


def _scorers(found: Calibrated, measures: dict[str, ScorerMeasures]) -> str:
    chosen = found.calibration.scorer
    headings = ("Scorer", "Served", "Gain where chosen", "Gain", "AURC", "E-AURC", "AUROC", "ECE", "Brier")
    rows = []
    for name, one in sorted(measures.items(), key=lambda item: -found.areas[item[0]]):
        cells = [
            share(found.coverages[name]),
            f"{found.areas[name]:.4f}",
            _ranged(one.gain),
            _ranged(one.aurc),
            f"{one.excess_aurc:.4f}",
            _ranged(one.auroc) if one.auroc else MISSING,
            share(one.reliability.ece),
            f"{one.brier:.3f}",
        ]
        kind = ' class="chosen"' if name == chosen else ""
        label = f'<span class="dot{"" if name == chosen else " teacher"}"></span>{escape(name)}'
        rows.append(f"<tr{kind}><td>{label}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "\n".join(rows)
    note = (
        f"In the order of what each gained on the {len(found.chosen)} rows that chose (what is learnt judged each by a fit without "
        "it); all other columns are from the rows that tested, with 95% bootstrap intervals. Chosen is the first in the documented "
        "order that falls behind the best by no more than one standard error. Served is the share that each would serve at the "
        "promised risk; the promise is given for the chosen one."
    )
    return (
        f'<section>\n<h2>Every scorer</h2>\n<p class="note">{note}</p>\n'
        f'<div class="card wide">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n</section>'
    )


def _footer(found: Calibrated) -> str:
    calibration = found.calibration
    parts = f"{len(found.chosen)} {'fitted and ' if LEARNED in found.scorers else ''}chose, {len(found.tested)} tested"
    if found.helped:
        parts += f"; {found.helped} that the model had learnt from helped to fit"
    entries = [
        ("Rows", f"{parts}; fingerprint {calibration.data}"),
        ("Variant", calibration.variant),
        ("Loss", calibration.loss),
        ("Guarantee", f"{calibration.guarantee}, risk {share(calibration.risk)}, delta {share(calibration.delta)}"),
    ]
    gates = [answer.evidence.gate for answer in found.tested if answer.evidence.gate is not None]
    if len(gates) == len(found.tested) and calibration.gate is not None:
        foreseen = np.array([sigmoid(log_odds) for log_odds in gates])
        area = float(separation(foreseen, losses_of(found.tested)))
        entries.append(("Gate", f"before the first token it separates right from wrong with AUROC {decimal(area)}"))
    body = "".join(f"<dt>{escape(term)}</dt><dd>{escape(words)}</dd>" for term, words in entries)
    return f"<footer>\n<h2>Where and how</h2>\n<dl>{body}</dl>\n</footer>"


def _ranged(found: Interval) -> str:
    return f"{found.value:.4f} <small>({found.low:.4f}–{found.high:.4f})</small>"

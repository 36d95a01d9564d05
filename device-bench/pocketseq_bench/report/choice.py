"""What ships and why: the variants that a run judged, as a picture of size against quality and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pocketseq.errors import DataError
from pocketseq.report.figures import megabytes, milliseconds, share
from pocketseq_bench.report.pareto import ParetoPoint, pareto_plot


@dataclass(frozen=True, slots=True)
class JudgedVariant:
    """One variant, as it was judged on held-out rows before anything was chosen."""

    label: str
    """Such as ``onnx/int8``."""
    runtime: str
    size_bytes: int
    """On disk."""
    exact_match: float | None
    """None where it could not run on the machine that judged, as the next two."""
    identical: float | None
    """Share of generations that are the checkpoint's."""
    latency_ms: float | None
    """Median of one answer."""
    kept: bool
    """Whether the bundle holds it."""
    why: str
    """Why it is kept or not, where there is something to say."""
    chrf: float | None = None
    """None likewise."""


def read_judged(directory: Path) -> tuple[JudgedVariant, ...]:
    """Read ``verification.json`` of a run; a run that has none gives none.

    Raises:
        DataError: it is not what the stage ``verify`` writes.
    """
    path = directory / "verification.json"
    if not path.is_file():
        return ()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        chosen = {each["label"]: each["why"] for each in (found.get("selection") or {}).get("candidates", ())}
        return tuple(
            JudgedVariant(
                label=(label := f"{each['runtime']}/{each['precision']}"),
                runtime=each["runtime"],
                size_bytes=each["size_bytes"],
                exact_match=each["metrics"] and each["metrics"]["exact_match"],
                identical=each["parity"] and each["parity"]["identical_generations"],
                latency_ms=each["latency_ms"],
                kept=each["kept"],
                chrf=each["metrics"] and each["metrics"].get("chrf"),
                why="; ".join(_reasons(each["kept_layers"], chosen.get(label) or each["reason"])),
            )
            for each in found["variants"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected what the stage verify writes, found no {error}; run that stage again") from error


def choice_section(variants: Sequence[JudgedVariant], *, by_chrf: bool = False) -> str:
    """The section of the page; empty where nothing was judged.

    Args:
        variants: What was judged.
        by_chrf: Whether answers are judged by chrF rather than by exact match.
    """
    qualities = {each.label: each.chrf if by_chrf else each.exact_match for each in variants}
    measure = "chrF" if by_chrf else "exact match"
    points = [
        ParetoPoint(each.label, each.size_bytes, quality, kind=each.runtime, chosen=each.kept)
        for each in variants
        if (quality := qualities[each.label]) is not None
    ]
    if not points:
        return ""
    rows = "\n".join(_row(each, qualities[each.label]) for each in variants)
    headings = "".join(f"<th>{name}</th>" for name in ("Variant", "MB", "chrF" if by_chrf else "Exact match", "As PyTorch", "ms"))
    return (
        '<section>\n<h2>What ships</h2>\n<p class="note">Each variant answered held-out rows before anything was chosen. '
        "Ringed: in the bundle. The line joins the variants that no smaller one matches.</p>\n"
        f'<section class="plots">\n<section class="card">\n{pareto_plot(points, measure=measure)}\n</section>\n'
        f'<section class="card wide">\n<table class="reasons">\n<thead><tr>{headings}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</section>\n</section>\n</section>"
    )


def _reasons(kept_layers: Sequence[str], reason: str) -> list[str]:
    layers = [f"in a higher precision: {', '.join(kept_layers)}"] if kept_layers else []
    return layers + ([reason] if reason else [])


def _row(variant: JudgedVariant, quality: float | None) -> str:
    cells = [megabytes(variant.size_bytes), share(quality), share(variant.identical), milliseconds(variant.latency_ms)]
    name = f"<strong>{escape(variant.label)}</strong>" if variant.kept else escape(variant.label)
    why = f"<small>{escape(variant.why)}</small>" if variant.why else ""
    return f"<tr><td>{name}{why}</td>{''.join(f'<td>{each}</td>' for each in cells)}</tr>"

"""The part of a report about the gap between teacher and student, from what ``pocketseq gap`` wrote into the run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from pocketseq.checkpoint import weights_fingerprint
from pocketseq.errors import DataError


def read_gap(directory: Path) -> Mapping[str, Any] | None:
    """The gap of a run, or None where nobody measured it, or where it was measured of models that the run no longer holds.

    Raises:
        DataError: a file that is no gap.
    """
    path = directory / "gap.json"
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        gap_section(found)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected what 'pocketseq gap' writes, found no {error}; measure it again") from None
    weights = found.get("weights")
    if weights is None:
        print(f"{path}: left out of the report, as it does not tell of which models it is; measure it again", file=sys.stderr)
        return None
    if changed := [name for name in ("teacher", "student") if weights.get(name) != weights_fingerprint(directory / name)]:
        print(f"{path}: left out of the report, as it is of another {' and '.join(changed)}; measure it again", file=sys.stderr)
        return None
    return found


def gap_section(gap: Mapping[str, Any] | None) -> str:
    """A table of causes, with intervals and what each measurement held fixed; nothing where nothing was measured."""
    if gap is None:
        return ""
    rows = "\n".join(
        f"<tr><td>{escape(finding['cause'])}<small>{escape(finding['name'])}</small></td><td>{_points(finding['lost'])}</td>"
        f"<td>{finding['rows']}</td><td>{escape(finding['controls'])}</td></tr>"
        for finding in gap["findings"]
    )
    measure = "of chrF" if gap.get("measure") == "chrf" else "exact match"
    note = (
        f"On {gap['rows']} held-out rows the teacher has {_points(gap['teacher'])}% {measure}, the student "
        f"{_points(gap['student'])}%: a gap of {_points(gap['gap'])} points. Each cause below is one controlled measurement, in "
        "points; causes overlap, and they need not add up to the gap. In brackets: where 95% of the bootstrap resamplings lie."
    )
    note += f" Mind that {escape(gap['note'])}." if gap.get("note") else ""
    return (
        f'<section>\n<h2>Where quality was lost</h2>\n<p class="note">{note}</p>\n<div class="card wide gap">\n<table>\n<thead><tr>'
        "<th>Cause</th><th>Points lost</th><th>Rows</th><th>What was compared</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n"
        f'<p class="note">What to try next: {escape(gap["advice"])}.</p>\n</section>'
    )


def _points(value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    return f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"

"""A deferral study for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketseq.report.figures import MISSING, share
from pocketseq_bench.deferral.study import BASELINE
from pocketseq_bench.report.bench_table import markdown_table

_HEADINGS: Final = ("run, cloud", "wrong here", "wrong there", "scorer", "gain", "more area", "serves")
_NOTE: Final = (
    "Wrong is the mean loss, on the device and in the cloud. The gain is relative to that of Chow-Average, with its 95% interval, "
    "and missing where Chow-Average gains next to nothing; more area is the difference. Served is what the scorer would keep on "
    "the device at the run's risk."
)


def deferral_markdown(runs: Mapping[str, Any]) -> str:
    """For each run and cloud the scorer that was chosen, the one that gained most, and Chow-Average; then what they rest on.

    Args:
        runs: What ``measure_run`` gave, by name.
    """
    rows = [
        (*(about if place == 0 else ("", "", "")), *cells)
        for run in runs.values()
        for cloud, study in run["clouds"].items()
        for about in [(f"{run['name']}, {cloud}", share(study["base_risk"]), share(study["cloud_risk"]))]
        for place, cells in enumerate(_scorers(study))
    ]
    return "\n".join([markdown_table(_HEADINGS, rows), "", _NOTE, "", *map(_about, runs.values())])


def _scorers(study: Mapping[str, Any]) -> list[tuple[str, ...]]:
    gains, chosen = study[f"gain_over_{BASELINE}"], study["chosen"]
    best = max(gains, key=lambda name: gains[name]["difference"]["value"])
    words = {chosen: ["chosen"]}
    if gains[best]["difference"]["value"] > 0:
        words.setdefault(best, []).append("gains most")
    words.setdefault(BASELINE, [])
    return [
        (", ".join((f"`{name}`", *said)), *_gain(gains.get(name)), share(study["scorers"][name]["coverage"]))
        for name, said in words.items()
    ]


def _gain(gain: Mapping[str, Any] | None) -> tuple[str, str]:
    if gain is None:
        return "", ""
    more = gain["difference"]
    area = f"{more['value']:+.4f} ({more['low']:+.4f} to {more['high']:+.4f})"
    if gain["low"] is None or gain["value"] is None:
        return MISSING, area
    return f"{100 * gain['value']:+.1f}% ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})", area


def _about(run: Mapping[str, Any]) -> str:
    clouds = list(run["clouds"].values())
    study, promise = clouds[0], clouds[-1]["promise"]
    rows, first = study["rows"], promise[0]
    kept = ", ".join(
        f"{share(one['kept'])} at a risk of {share(one['risk'])} ({share(one['served_something'])} could serve something)"
        for one in promise
    )
    return (
        f"- {run['name']}: {run['variant']}, the loss `{run['loss']}`, a risk of {share(study['risk'])}; {rows['chose']:,} rows "
        f"fit and choose, {rows['tested']:,} measure. Of {first['resamplings']:,} calibrations on {first['rows']:,} rows drawn "
        f"from those, with a δ of {share(first['delta'])}, so many kept their promise: {kept}."
    )

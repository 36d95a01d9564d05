"""How the machine behaved while it measured: what was noisy, and by how much another run may differ. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from pocketseq_bench.document import Conduct, MachineState
from pocketseq_bench.intervals import median_interval, samples
from pocketseq_bench.measuring.journal import Journal
from pocketseq_bench.row import Reading, Row

LOOP_SPREAD, HALVES, STEAL, OTHERS, WAITED = 0.03, 0.05, 0.02, 0.10, 0.03
"""What a quiet machine stays within."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How the machine was while it measured."""

    seconds: float
    steal: Reading
    others: Reading
    before: MachineState
    after: MachineState
    cooldown_s: float
    resumed: bool


def judge_conduct(journal: Journal, rows: Sequence[Row], circumstances: Circumstances) -> Conduct:
    """Put together how the machine behaved, and whether that was quiet."""
    loops: dict[tuple[int, int], list[float]] = {}
    for turn in journal.of("turn"):
        loops.setdefault((turn["group"], turn["number"]), []).append(turn["loop_ms"])
    loop = samples(list(loops.values()) or [[0.0]])
    low, high = np.percentile([median(loop) for loop in loops.values()] or [0.0], (10, 90))
    spread = round(float(high - low) / 2 / loop.p50, 5) if loop.p50 else 0.0
    overheads = [[entry["timed_ms"] / entry["bare_ms"] - 1] for entry in journal.of("overhead") if entry["bare_ms"]]
    overhead = median_interval(overheads) if overheads else None
    waited = _waited(rows)
    noises = _noises(spread, waited, rows, circumstances)
    return Conduct(
        seconds=round(circumstances.seconds, 1),
        quiet=not noises and any(row.stages_ms for row in rows),
        verdict=_verdict(noises, spread, waited, rows),
        loop_ms=loop,
        loop_spread=spread,
        steal=circumstances.steal,
        others=circumstances.others,
        waited=waited,
        harness_overhead=round(overhead.value, 5) if overhead else None,
        harness_overhead_at_most=round(overhead.high, 5) if overhead else None,
        before=circumstances.before,
        after=circumstances.after,
        cooldown_s=circumstances.cooldown_s,
        resumed=circumstances.resumed,
    )


def _waited(rows: Sequence[Row]) -> Reading:
    """Where one thread does all the work, wall clock and processor time differ only by what it waits for a processor."""
    clocks = [(row.stages_ms["total"], row.processor_ms) for row in rows if row.by_processor and row.stages_ms and row.processor_ms]
    wall = sum(sum(turn) for total, _ in clocks for turn in total.rounds)
    if not wall:
        return Reading(None, "no configuration of which it can be told")
    return Reading(round(max(0.0, 1 - sum(sum(turn) for _, spent in clocks for turn in spent.rounds) / wall), 5))


def _noises(spread: float, waited: Reading, rows: Sequence[Row], circumstances: Circumstances) -> list[str]:
    found = []
    if (waited.value or 0) > WAITED:
        found.append(f"suggestions waited {100 * (waited.value or 0):.0f}% of their time for a processor")
    if (circumstances.others.value or 0) > OTHERS:
        found.append(f"other programs used {100 * (circumstances.others.value or 0):.0f}% of the processors")
    if (circumstances.steal.value or 0) > STEAL:
        found.append(f"the hypervisor took {100 * (circumstances.steal.value or 0):.0f}% of the time")
    if spread > LOOP_SPREAD:
        found.append(f"a fixed loop varied by {100 * spread:.0f}% from round to round")
    drifts = {row.label: abs(row.halves - 1) for row in rows if row.halves is not None}
    if drifts and max(drifts.values()) > HALVES:
        label = max(drifts, key=lambda name: drifts[name])
        found.append(f"the halves of the run differ by {100 * drifts[label]:.0f}% at the median of {label}")
    return found


def _verdict(noises: Sequence[str], spread: float, waited: Reading, rows: Sequence[Row]) -> str:
    if not any(row.stages_ms for row in rows):
        return "nothing was measured"
    drift = max((abs(row.halves - 1) for row in rows if row.halves is not None), default=None)
    if not noises:
        halves = "" if drift is None else f", the halves of the run agree within {100 * drift:.1f}%"
        return f"quiet: a fixed loop varied by {100 * spread:.1f}% from round to round{halves}"
    widest = max(spread, waited.value or 0.0, drift or 0.0, *(row.spread or 0.0 for row in rows))
    return f"noisy: {'; '.join(noises)}; another run may differ by {100 * widest:.0f}% or more{_safer(rows)}"


def _safer(rows: Sequence[Row]) -> str:
    """What holds all the same: ratios, where there are any."""
    measured = [row.relative for row in rows if row.stages_ms]
    found = [relative for relative in measured if relative.value is not None]
    if len(found) < 2:
        return ""
    which = "as they took turns" if len(found) == len(measured) else "where they took turns"
    spreads = [relative.spread for relative in found if relative.spread]
    known = f": they are known within {100 * max(spreads):.1f}%" if spreads else ""
    return f". Ratios between configurations are safer, {which}{known}"

"""What open configurations do in turns: real inputs, batches, forced lengths; and each by itself without a pause."""

from __future__ import annotations

import math
import time
from typing import Final

from pocketseq_bench.device import EnergyMeter, machine_state
from pocketseq_bench.intervals import median_interval
from pocketseq_bench.measuring.plan import Configuration
from pocketseq_bench.measuring.progress import ROUNDS, Bench

WARMUP: Final = 2
"""Suggestions before each turn: another process has just used the caches."""
_WINDOW_S: Final = 10.0
_PAIRS: Final = 6
"""Pairs of a bare and a timed loop, for each repeat of the settings."""
_PAIR_ROWS: Final = 8


def measure_rounds(bench: Bench) -> None:
    """Real inputs until every median is known well enough, or the time is up; then the memory that it took."""
    plan, number = bench.plan, 0
    while True:
        for configuration, process in bench.in_turns(number):
            if bench.journal.has("turn", configuration.label, number):
                continue
            rows, meter = plan.turn(number), EnergyMeter()
            with bench.guarded(configuration):
                loop = process.ask("loop")
                meter.start()
                reply = process.ask("turn", rows=rows, warmup=WARMUP)
                meter.stop()
                energy = meter.per_item_mj(len(rows) + WARMUP)
                about = {"group": bench.group, "rows": rows, "energy_mj": [energy.value, energy.reason]}
                bench.journal.add("turn", configuration.label, number, {**about, **loop, **reply})
        number += 1
        spreads = [_spread(bench, configuration) for configuration, _ in bench.in_turns(number)]
        if not spreads or not bench.has_time(ROUNDS):
            break
        bench.say(f"round {number}: the least certain median is known within {100 * max(spreads):.1f}%")
        if number >= plan.least_rounds and max(spreads) <= plan.settings.tolerance:
            break
    for configuration, process in bench.in_turns(0):
        times = len(bench.journal.of("memory", configuration.label))
        bench.keep(configuration, process, "memory", times, "memory")


def measure_overhead(bench: Bench) -> None:
    """What the harness adds to a bare loop, with the fastest configuration: its share is the largest there."""
    fastest = min(bench.in_turns(0), key=lambda each: _first_turn_ms(bench, each[0]), default=None)
    if fastest is None:
        return
    configuration, process = fastest
    for number in range(_PAIRS * bench.plan.settings.repeats):
        if configuration.label not in bench.problems:
            rows = bench.plan.turn(number, rows=_PAIR_ROWS)
            bench.keep(configuration, process, "overhead", number, "overhead", rows=rows, timed_first=bool(number % 2))


def measure_batches(bench: Bench) -> None:
    """Many inputs at once."""
    settings = bench.plan.settings
    for number in range(settings.repeats):
        for configuration, process in bench.in_turns(number):
            for size in settings.batches:
                if number == 0 or bench.has_time((1 + ROUNDS) / 2):
                    # Whole calls: a shorter one would count as many suggestions as the others.
                    rows = bench.plan.turn(number, rows=-(-settings.turn_rows // size) * size)
                    bench.keep(configuration, process, f"batch {size}", number, "batch", rows=rows, size=size)


def measure_forced(bench: Bench) -> None:
    """Answers of a fixed length; after all else, as the models are opened anew for it."""
    for configuration, process in bench.in_turns(0):
        with bench.guarded(configuration):
            process.ask("endless", rows=bench.plan.turn(0, rows=4))
    for number in range(bench.plan.settings.repeats):
        for configuration, process in bench.in_turns(number):
            if number == 0 or bench.has_time(1.0):
                tokens = bench.plan.settings.forced_tokens
                bench.keep(configuration, process, "forced", number, "forced", rows=bench.plan.turn(number), tokens=tokens)


def measure_sustained(bench: Bench) -> None:
    """Each configuration by itself, without a pause, once the machine has cooled down."""
    minutes = bench.plan.settings.sustained_minutes
    for configuration in bench.live() if minutes else []:
        if not bench.journal.has("sustained", configuration.label, 0):
            bench.cool_down()
            bench.report(f"{configuration.label}: answering without a pause for {minutes:g} min")
            with bench.guarded(configuration):
                _without_pause(bench, configuration, minutes)


def _without_pause(bench: Bench, configuration: Configuration, minutes: float) -> None:
    window_s = min(_WINDOW_S, 60 * minutes / 8)
    windows: list[list[float]] = []
    with bench.fresh() as process:
        process.ask("open", **bench.plan.opening(configuration))
        began, number, opened = time.monotonic(), 0, 0.0
        while (elapsed := time.monotonic() - began) < 60 * minutes or not windows:
            if not windows or elapsed - opened >= window_s:
                windows.append([])
                opened = elapsed
            windows[-1] += process.ask("turn", rows=bench.plan.turn(number), warmup=0)["total"]
            number += 1
    temperature = machine_state().temperature_c
    # A window ends with a turn, and a turn may take longer than it was to be.
    found = {"window_s": round(elapsed / len(windows), 3), "minutes": minutes, "windows": windows}
    bench.journal.add("sustained", configuration.label, 0, {**found, "temperature_c": [temperature.value, temperature.reason]})


def _spread(bench: Bench, configuration: Configuration) -> float:
    turns = bench.journal.of("turn", configuration.label)
    return median_interval([turn["total"] for turn in turns]).spread if turns else 1.0


def _first_turn_ms(bench: Bench, configuration: Configuration) -> float:
    turns = bench.journal.of("turn", configuration.label)
    return sum(turns[0]["total"]) if turns else math.inf

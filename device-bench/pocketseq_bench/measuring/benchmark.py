"""A benchmark from first to last: starts, rounds, batches, forced lengths, and a sustained run where one is asked for.

Configurations take turns, so that whatever disturbs the machine disturbs all of them alike.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketseq.bundle import open_bundle
from pocketseq_bench.device import EnergyMeter, LoadMeter, cool_down, drop_pages, machine_state
from pocketseq_bench.device.processes import available_bytes
from pocketseq_bench.document import BenchDocument, MachineState
from pocketseq_bench.intervals import median_interval
from pocketseq_bench.measuring.inputs import BenchInputs
from pocketseq_bench.measuring.journal import Journal
from pocketseq_bench.measuring.plan import Configuration, Plan
from pocketseq_bench.measuring.processes import Process, SubjectError
from pocketseq_bench.measuring.settings import BenchSettings
from pocketseq_bench.measuring.summary import Circumstances, Problem, summarize

_STARTS, _ROUNDS = 0.2, 0.8
"""Shares of the time that are over when the starts, and then the rounds, must be."""
_ROOM_BYTES = 96 << 20
"""Memory that stays free when processes wait for their turns side by side."""
_WINDOW_S = 10.0


@dataclass(slots=True)
class _Bench:
    plan: Plan
    journal: Journal
    report: Callable[[str], None]
    problems: dict[str, Problem] = field(default_factory=dict)
    cooldown_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def left(self, share: float) -> bool:
        return time.monotonic() - self.began < share * self.plan.settings.budget_s

    def live(self) -> list[Configuration]:
        return [each for each in self.plan.configurations if each.label not in self.problems]

    def fresh(self) -> Process:
        return Process(patience_s=self.plan.settings.patience_s)

    def guarded(self, configuration: Configuration, work: Callable[[], None]) -> bool:
        try:
            work()
        except SubjectError as error:
            self.problems[configuration.label] = Problem(error.status, str(error))
            self.report(f"{configuration.label}: {error}")
            return False
        return True


def run_bench(
    source: str | Path,
    *,
    inputs: BenchInputs | None = None,
    settings: BenchSettings | None = None,
    directory: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> BenchDocument:
    """Measure the variants of a bundle on this machine, each in fresh processes, in turns.

    Interrupted, the same call with the same directory keeps what was measured and goes on.

    Args:
        source: What ``PocketModel.load`` takes.
        inputs: What to ask; None takes the package's own inputs for the bundle's task.
        settings: What to measure, how often, and for how long.
        directory: Where measurements are kept until all are made; None keeps them in memory.
        report: Takes one line of progress; None writes to standard error.

    Raises:
        BundleError: the bundle cannot be used.
        DataError: no inputs.
    """
    plan = Plan.make(source, inputs=inputs, settings=settings or BenchSettings())
    journal = Journal(directory, fingerprint=plan.fingerprint)
    bench = _Bench(plan, journal, report or _to_stderr)
    resumed = journal.resumed > 0
    if resumed:
        bench.report(f"going on after {journal.resumed} measurements of an interrupted run")
    before, load, own = machine_state(), LoadMeter(), os.times()
    _starts(bench)
    bench.cooldown_s += cool_down(before.temperature_c.value, limit_s=plan.settings.cooldown_s)
    for group in _groups(bench):
        with group as opened:
            _rounds(bench, opened)
            _extras(bench, opened)
    _sustained(bench, before)
    spent = os.times()
    own_s = sum(spent[:4]) - sum(own[:4])
    return summarize(
        plan,
        journal,
        bench.problems,
        Circumstances(
            seconds=time.monotonic() - bench.began,
            steal=load.steal(),
            others=load.others(own_s),
            before=before,
            after=machine_state(),
            cooldown_s=bench.cooldown_s,
            resumed=resumed,
        ),
    )


def _starts(bench: _Bench) -> None:
    """Import, load and first suggestion in fresh processes, warm and cold, in turns."""
    settings = bench.plan.settings
    bench.report(f"starts: up to {settings.starts} fresh processes for each of {len(bench.plan.configurations)} configurations")
    for kind, times in (("start", settings.starts), ("cold", settings.cold_starts)):
        for number in range(times):
            for configuration in bench.live():
                if bench.journal.has(kind, configuration.label, number) or (number and not bench.left(_STARTS)):
                    continue
                bench.guarded(configuration, lambda kind=kind, number=number, each=configuration: _start(bench, each, kind, number))  # type: ignore[misc]


def _start(bench: _Bench, configuration: Configuration, kind: str, number: int) -> None:
    note: dict[str, Any] = {}
    if kind == "cold":
        dropped = drop_pages(_files(bench.plan.source, configuration))
        note = {"dropped": dropped.value, "reason": dropped.reason}
        if dropped.value is None and not hasattr(os, "posix_fadvise"):
            bench.journal.add(kind, configuration.label, number, note)
            return
    with bench.fresh() as process:
        reply = process.ask("open", **bench.plan.opening(configuration))
    bench.journal.add(kind, configuration.label, number, {**reply, **note})


def _files(source: str, configuration: Configuration) -> list[Path]:
    if Path(source).is_file():
        return [Path(source)]
    with open_bundle(source) as bundle:
        return list(bundle.paths([bundle.manifest.tokenizer, *configuration.variant.files]).values())


@dataclass(slots=True)
class _Opened:
    """Processes that are open side by side, waiting for their turns."""

    processes: dict[str, Process]
    stack: ExitStack

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def _groups(bench: _Bench) -> Iterator[_Opened]:
    """Open as many configurations side by side as the memory holds; on most machines all of them."""
    waiting = bench.live()
    while waiting:
        opened, largest = _Opened({}, ExitStack()), 0
        while waiting:
            free = available_bytes()
            if opened.processes and free is not None and free < 2 * largest + _ROOM_BYTES:
                bench.report("memory is short: the other configurations are measured after these, no longer in turns with them")
                break
            configuration = waiting.pop(0)
            process = opened.stack.enter_context(bench.fresh())

            def opening(each: Configuration = configuration, process: Process = process) -> None:
                reply = process.ask("open", **bench.plan.opening(each))
                bench.journal.add("opened", each.label, bench.journal.resumed, reply)
                process.ask("turn", rows=bench.plan.turn(0, rows=4), warmup=bench.plan.settings.warmup)
                opened.processes[each.label] = process

            try:
                bench.guarded(configuration, opening)
            except BaseException:
                opened.stack.close()
                raise
            largest = max([largest, *(int(entry["loaded_bytes"][0] or 0) for entry in bench.journal.of("opened"))])
        yield opened


def _in_turns(bench: _Bench, opened: _Opened, number: int) -> Iterator[tuple[Configuration, Process]]:
    """Every configuration that is still alive, another one first in each round."""
    live = [each for each in bench.live() if each.label in opened.processes]
    for place in range(len(live)):
        configuration = live[(place + number) % len(live)]
        yield configuration, opened.processes[configuration.label]


def _rounds(bench: _Bench, opened: _Opened) -> None:
    """Turns of real inputs until every median is known well enough, or the time is up."""
    plan, number, said = bench.plan, 0, time.monotonic()
    meters = {label: EnergyMeter() for label in opened.processes}
    while True:
        for configuration, process in _in_turns(bench, opened, number):
            label = configuration.label
            if bench.journal.has("turn", label, number):
                continue

            def turn(label: str = label, process: Process = process, number: int = number) -> None:
                meter = meters[label]
                meter.joules = 0.0
                meter.start()
                reply = process.ask("turn", rows=plan.turn(number), warmup=2)
                meter.stop()
                rows = plan.turn(number)
                energy = meter.per_item_mj(len(rows) + 2)
                bench.journal.add("turn", label, number, {"rows": rows, "energy_mj": [energy.value, energy.reason], **reply})

            bench.guarded(configuration, turn)
        number += 1
        widest = max((_spread(bench, each) for each, _ in _in_turns(bench, opened, number)), default=0.0)
        if time.monotonic() - said > 5:
            said = time.monotonic()
            bench.report(f"round {number}: the least certain median is known within {100 * widest:.1f}%")
        if not any(True for _ in _in_turns(bench, opened, number)) or not bench.left(_ROUNDS):
            break
        if number >= plan.least_rounds and widest <= plan.settings.tolerance:
            break


def _spread(bench: _Bench, configuration: Configuration) -> float:
    turns = bench.journal.of("turn", configuration.label)
    return median_interval([turn["total"] for turn in turns]).spread if turns else 0.0


def _extras(bench: _Bench, opened: _Opened) -> None:
    """Memory, what the harness costs, batches, and forced lengths."""
    plan, settings = bench.plan, bench.plan.settings
    for configuration, process in _in_turns(bench, opened, 0):
        bench.guarded(configuration, lambda each=configuration, process=process: _memory(bench, each, process))  # type: ignore[misc]
    for number in range(2 * settings.repeats):
        for configuration, process in list(_in_turns(bench, opened, 0))[:1]:
            rows = plan.turn(number)
            request = {"rows": rows, "timed_first": bool(number % 2)}
            _kept(bench, configuration, process, "overhead", number, "overhead", request)
    for number in range(settings.repeats):
        for configuration, process in _in_turns(bench, opened, number):
            for size in settings.batches:
                if number and not bench.left(0.9):
                    continue
                rows = plan.turn(number, rows=max(settings.turn_rows, size))
                _kept(bench, configuration, process, f"batch {size}", number, "batch", {"rows": rows, "size": size})
    for configuration, process in _in_turns(bench, opened, 0):
        bench.guarded(configuration, lambda process=process: process.ask("endless", rows=plan.turn(0)[:4]) and None)  # type: ignore[misc]
    for number in range(settings.repeats):
        for configuration, process in _in_turns(bench, opened, number):
            if number and not bench.left(1.0):
                continue
            request = {"rows": plan.turn(number), "tokens": settings.forced_tokens}
            _kept(bench, configuration, process, "forced", number, "forced", request)


def _kept(
    bench: _Bench, configuration: Configuration, process: Process, kind: str, number: int, do: str, request: dict[str, Any]
) -> None:
    if not bench.journal.has(kind, configuration.label, number):
        bench.guarded(configuration, lambda: bench.journal.add(kind, configuration.label, number, process.ask(do, **request)))


def _memory(bench: _Bench, configuration: Configuration, process: Process) -> None:
    number = len(bench.journal.of("memory", configuration.label))
    bench.journal.add("memory", configuration.label, number, process.ask("memory"))


def _sustained(bench: _Bench, before: MachineState) -> None:
    """Each configuration by itself, without a pause, after the machine has cooled down."""
    minutes = bench.plan.settings.sustained_minutes
    for configuration in bench.live() if minutes else []:
        if bench.journal.has("sustained", configuration.label, 0):
            continue
        bench.cooldown_s += cool_down(before.temperature_c.value, limit_s=bench.plan.settings.cooldown_s)
        bench.report(f"{configuration.label}: answering without a pause for {minutes:g} min")
        bench.guarded(configuration, lambda each=configuration: _without_pause(bench, each, minutes))  # type: ignore[misc]


def _without_pause(bench: _Bench, configuration: Configuration, minutes: float) -> None:
    window_s = min(_WINDOW_S, 60 * minutes / 8)
    windows: list[list[float]] = []
    with bench.fresh() as process:
        process.ask("open", **bench.plan.opening(configuration))
        began, number = time.monotonic(), 0
        while (elapsed := time.monotonic() - began) < 60 * minutes:
            if elapsed >= len(windows) * window_s:
                windows.append([])
            windows[-1] += process.ask("turn", rows=bench.plan.turn(number), warmup=0)["total"]
            number += 1
    temperature = machine_state().temperature_c
    found = {"window_s": window_s, "minutes": minutes, "windows": windows, "temperature_c": [temperature.value, temperature.reason]}
    bench.journal.add("sustained", configuration.label, 0, found)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

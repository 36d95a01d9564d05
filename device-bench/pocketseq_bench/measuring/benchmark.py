"""A benchmark from first to last: starts, rounds, batches, forced lengths, and a sustained run where one is asked for.

Configurations take turns, so that whatever disturbs the machine disturbs all of them alike.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from pocketseq.bundle import open_bundle
from pocketseq_bench.device import LoadMeter, drop_pages, machine_state
from pocketseq_bench.device.processes import available_bytes
from pocketseq_bench.document import BenchDocument, write_document
from pocketseq_bench.measuring.conduct import Circumstances
from pocketseq_bench.measuring.inputs import BenchInputs
from pocketseq_bench.measuring.journal import Journal
from pocketseq_bench.measuring.plan import Configuration, Plan
from pocketseq_bench.measuring.progress import STARTS, Bench
from pocketseq_bench.measuring.rounds import measure_batches, measure_forced, measure_overhead, measure_rounds, measure_sustained
from pocketseq_bench.measuring.settings import BenchSettings
from pocketseq_bench.measuring.summary import summarize

_ROOM_BYTES = 96 << 20
"""Memory that stays free when processes wait for their turns side by side."""


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
        directory: Where ``bench.json`` is written, and measurements are kept until all are made; None keeps them in memory.
        report: Takes one line of progress; None writes to standard error.

    Raises:
        BundleError: the bundle cannot be used.
        DataError: no inputs.
    """
    plan = Plan.make(source, inputs=inputs, settings=settings or BenchSettings())
    journal = Journal(directory, fingerprint=plan.fingerprint)
    resumed = journal.resumed
    bench = Bench(plan, journal, report or _to_stderr, before=machine_state())
    if resumed:
        bench.report(f"going on after {resumed} measurements of an interrupted run")
    load, own = LoadMeter(), os.times()
    _starts(bench)
    bench.cool_down()
    for stack in _groups(bench):
        with stack:
            measure_rounds(bench)
            measure_overhead(bench)
            measure_batches(bench)
            measure_forced(bench)
        bench.processes.clear()
    measure_sustained(bench)
    own_s = sum(os.times()[:4]) - sum(own[:4])
    document = summarize(
        plan,
        journal,
        bench.problems,
        Circumstances(
            seconds=bench.seconds,
            steal=load.steal(),
            others=load.others(own_s),
            before=bench.before,
            after=machine_state(),
            cooldown_s=bench.cooldown_s,
            resumed=resumed > 0,
        ),
    )
    if directory is not None:
        write_document(directory / "bench.json", document)
    journal.remove()
    return document


def _starts(bench: Bench) -> None:
    """Import, load and first suggestion in fresh processes, warm and cold, in turns."""
    settings = bench.plan.settings
    for kind, times in (("start", settings.starts), ("cold", settings.cold_starts)):
        for number in range(times):
            bench.say(f"{kind} {number + 1} of {times}, for each of {len(bench.plan.configurations)} configurations")
            for configuration in bench.live():
                needed = kind == "start" and number == 0
                if bench.journal.has(kind, configuration.label, number) or not (needed or bench.has_time(STARTS)):
                    continue
                with bench.guarded(configuration):
                    _start(bench, configuration, kind, number)


def _start(bench: Bench, configuration: Configuration, kind: str, number: int) -> None:
    note: dict[str, object] = {}
    if kind == "cold":
        dropped = drop_pages(_files(bench.plan.source, configuration))
        note = {"reason": dropped.reason}
        if not hasattr(os, "posix_fadvise"):
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


def _groups(bench: Bench) -> Iterator[ExitStack]:
    """Open as many configurations side by side as the memory holds, on most machines all of them; groups share the time."""
    waiting, largest = bench.live(), 0
    while waiting:
        since_s = bench.seconds
        with ExitStack() as stack:
            while waiting:
                free = available_bytes()
                if bench.processes and free is not None and free < 2 * largest + _ROOM_BYTES:
                    bench.report("memory is short: the other configurations are measured after these, and no ratios tell of both")
                    break
                configuration = waiting.pop(0)
                with bench.guarded(configuration):
                    process = stack.enter_context(bench.fresh())
                    reply = process.ask("open", **bench.plan.opening(configuration))
                    bench.journal.add("opened", configuration.label, len(bench.journal.of("opened", configuration.label)), reply)
                    process.ask("turn", rows=bench.plan.turn(0, rows=4), warmup=bench.plan.settings.warmup)
                    bench.processes[configuration.label] = process
                    largest = max(largest, int(reply["loaded_bytes"][0] or 0))
            bench.begin_group(since_s=since_s, waiting=len(waiting))
            yield stack.pop_all()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

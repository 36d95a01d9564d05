"""From a journal to a document: percentiles, intervals, ratios and quality. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean, median
from typing import Any, Final

from pocketseq.metrics import evaluate_rows
from pocketseq.records import plain
from pocketseq_bench.document import BenchDocument
from pocketseq_bench.intervals import median_interval, samples
from pocketseq_bench.latency import FINE_PROCESSOR_CLOCK
from pocketseq_bench.measuring.conduct import Circumstances, judge_conduct
from pocketseq_bench.measuring.journal import Journal
from pocketseq_bench.measuring.plan import Configuration, Plan
from pocketseq_bench.pairing import paired
from pocketseq_bench.row import Forced, Memory, Reading, Relative, Row, Samples, Startup, Status, Sustained, Throughput

Entry = Mapping[str, Any]

STAGES: Final = ("total", "tokenize", "encode", "decode", "detokenize")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a configuration could not be measured, or not to the end."""

    status: Status
    message: str


def summarize(plan: Plan, journal: Journal, problems: Mapping[str, Problem], circumstances: Circumstances) -> BenchDocument:
    """Put together what was measured."""
    rows = tuple(_row(plan, journal, each, problems.get(each.label)) for each in plan.configurations)
    return BenchDocument(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=plan.bundle,
        inputs=plan.inputs.card,
        settings=plain(plan.settings),
        device=plan.device,
        conduct=judge_conduct(journal, rows, circumstances),
        rows=rows,
    )


def _row(plan: Plan, journal: Journal, configuration: Configuration, problem: Problem | None) -> Row:
    label, variant = configuration.label, configuration.variant
    turns = journal.of("turn", label)
    starts, cold = journal.of("start", label), journal.of("cold", label)
    quality, n = _quality(plan, turns)
    interval = median_interval([turn["total"] for turn in turns]) if turns else None
    precise = interval is not None and interval.spread <= plan.settings.tolerance
    return Row(
        runtime=variant.runtime,
        precision=variant.precision,
        threads=configuration.threads,
        hash=variant.hash,
        size_bytes=variant.size_bytes,
        status=problem.status if problem else "measured",
        problem=problem.message if problem else "",
        pinned=_pinned(configuration, starts),
        startup=_startup(starts),
        cold=_startup([entry for entry in cold if "load_ms" in entry]),
        cold_reason=cold[-1]["reason"] if cold else _no_cold_start(plan),
        stages_ms=_stages(turns),
        tokens=fmean(token for turn in turns for token in turn["tokens"]) if turns else None,
        forced=_forced(plan, journal.of("forced", label)),
        throughput=tuple(
            _throughput(size, entries) for size in plan.settings.batches if (entries := journal.of(f"batch {size}", label))
        ),
        memory=_memory(journal, label),
        cpu_ms=round(median(fmean(turn["processor"]) for turn in turns), 4) if turns else None,
        processor_ms=samples([turn["processor"] for turn in turns]) if turns and FINE_PROCESSOR_CLOCK else None,
        energy_mj=_energy(turns),
        quality=quality,
        quality_n=n,
        parity=plain(variant.parity) if variant.parity else {},
        stop="" if interval is None else "precise" if precise else "time",
        spread=round(interval.spread, 5) if interval else None,
        halves=_halves(plan, turns),
        by_processor=turns != [] and _on_one_processor(configuration),
        relative=_relative(plan, journal, configuration),
        sustained=_sustained(journal.of("sustained", label)),
    )


def _pinned(configuration: Configuration, starts: Sequence[Entry]) -> Reading:
    failed = next((entry["not_pinned"] for entry in starts if entry["not_pinned"]), "")
    cores = configuration.pinning.cores
    return (
        Reading(None, failed or configuration.pinning.reason)
        if failed or not cores
        else Reading(len(cores), configuration.pinning.reason)
    )


def _startup(entries: Sequence[Entry]) -> Startup | None:
    if not entries:
        return None
    return Startup(*(samples([[entry[name]] for entry in entries]) for name in ("import_ms", "load_ms", "first_ms")))


def _no_cold_start(plan: Plan) -> str:
    return "the time for starts was up" if plan.settings.cold_starts else "no cold start was asked for"


def _stages(turns: Sequence[Entry]) -> dict[str, Samples]:
    if not turns:
        return {}
    per_token = [[ms / count for ms, count in zip(turn["decode"], turn["tokens"], strict=True) if count] for turn in turns]
    stages = {name: samples([turn[name] for turn in turns]) for name in STAGES}
    return stages | ({"per_token": samples(per_token)} if any(per_token) else {})


def _forced(plan: Plan, entries: Sequence[Entry]) -> Forced | None:
    if not entries:
        return None
    totals, tokens = samples([entry["total"] for entry in entries]), samples([entry["per_token"] for entry in entries])
    lengths = {length for entry in entries for length in entry["lengths"]}
    return Forced(tokens=lengths.pop() if len(lengths) == 1 else plan.settings.forced_tokens, total_ms=totals, per_token_ms=tokens)


def _throughput(size: int, entries: Sequence[Entry]) -> Throughput:
    calls = samples([entry["calls"] for entry in entries])
    return Throughput(batch=size, per_second=round(1000 * size / calls.p50, 2), call_ms=calls)


def _memory(journal: Journal, label: str) -> Memory | None:
    opened, later = journal.of("opened", label), journal.of("memory", label)
    if not opened or not later:
        return None
    first, last = opened[-1], later[-1]
    return Memory(
        *(
            Reading(*entry[name])
            for entry, name in ((first, "imported_bytes"), (first, "loaded_bytes"), (last, "steady_bytes"), (last, "peak_bytes"))
        )
    )


def _energy(turns: Sequence[Entry]) -> Reading:
    readings = [turn["energy_mj"] for turn in turns]
    values = [value for value, _ in readings if value is not None]
    reason = readings[-1][1] if readings else "nothing was measured"
    return Reading(round(median(values), 4) if values else None, reason)


def _quality(plan: Plan, turns: Sequence[Entry]) -> tuple[dict[str, float | None], int]:
    if not plan.inputs.labelled or not turns:
        return {}, 0
    answers = {row: answer for turn in turns for row, answer in zip(turn["rows"], turn["answers"], strict=True)}
    asked = sorted(answers)
    metrics = plain(evaluate_rows([plan.inputs.rows[row] for row in asked], [answers[row] for row in asked], primary=plan.primary))
    return {name: value for name, value in metrics.items() if isinstance(value, float) or value is None}, len(asked)


def _halves(plan: Plan, turns: Sequence[Entry]) -> float | None:
    """Passes over the same inputs, early ones against late ones."""
    passes = len(turns) // plan.rounds_a_pass
    if passes < 2:
        return None
    length = passes // 2 * plan.rounds_a_pass
    early, late = (median(ms for turn in part for ms in turn["total"]) for part in (turns[:length], turns[-length:]))
    return round(float(late / early), 5)


def _relative(plan: Plan, journal: Journal, configuration: Configuration) -> Relative:
    """Round by round against the first row that was measured, where both took turns: they had the same inputs and about the same
    neighbours then.

    A neighbour on the same processor stretches long calls and short ones by different shares, since the system changes programs
    every few milliseconds: so by processor time where that is what a suggestion takes, and by whole turns.
    """
    first = next((each for each in plan.configurations if journal.of("turn", each.label)), configuration)
    clock = "processor" if _on_one_processor(first) and _on_one_processor(configuration) else "total"
    others = {(turn["group"], turn["number"]): sum(turn[clock]) for turn in journal.of("turn", first.label)}
    measured = journal.of("turn", configuration.label)
    turns = [turn for turn in measured if (turn["group"], turn["number"]) in others]
    if not turns:
        return Relative(None, f"measured at another time than {first.label}, not in turns" if measured else "not measured")
    found = paired((sum(turn[clock]) for turn in turns), (others[turn["group"], turn["number"]] for turn in turns))
    words = f"against {first.label}, by {'processor time' if clock == 'processor' else 'wall clock'}"
    if len(turns) == 1:
        return Relative(round(found.value, 4), f"{words}, of a single round")
    return Relative(round(found.value, 4), words, low=round(found.low, 4), high=round(found.high, 4))


def _on_one_processor(configuration: Configuration) -> bool:
    """Whether one thread of a processor does all the work: its time is the suggestion's then. Core ML picks units as it likes."""
    return FINE_PROCESSOR_CLOCK and configuration.threads == 1 and configuration.variant.runtime != "coreml"


def _sustained(entries: Sequence[Entry]) -> Sustained | None:
    if not entries:
        return None
    medians = [median(window) for window in entries[-1]["windows"] if window]
    quarter = max(1, len(medians) // 4)
    return Sustained(
        minutes=entries[-1]["minutes"],
        window_s=entries[-1]["window_s"],
        medians_ms=tuple(round(value, 4) for value in medians),
        slowdown=round(median(medians[-quarter:]) / median(medians[:quarter]), 4),
        temperature_c=Reading(*entries[-1]["temperature_c"]),
    )

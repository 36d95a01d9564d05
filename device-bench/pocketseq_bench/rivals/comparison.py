"""The comparison: first that outputs are the same, then times, in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from pocketseq.errors import InputError
from pocketseq.examples import Example
from pocketseq_bench.environment import environment
from pocketseq_bench.pairing import interval_json, paired
from pocketseq_bench.rivals.contenders import OURS, Contender, Worker
from pocketseq_bench.rivals.field import Field, enter, program
from pocketseq_bench.rivals.tasks import Task, measure, measure_drafts, turned

FORMAT: Final = 2
"""In the first one a forced length was timed below ``generate`` where it was ours, and ratios had no intervals."""
ROUNDS: Final = 5
"""Runs of each contender, in turns."""
TASKS: Final = (
    Task("greedy", rows=40),
    Task("greedy, 32 tokens", rows=20, tokens=32),
    Task("beam 4", rows=20, beam=4),
    Task("batch 32", rows=64, batch=32),
)


def compare(
    checkpoint: Path,
    bundle: str | Path,
    examples: Sequence[Example],
    *,
    directory: Path,
    threads: int = 1,
    rounds: int = ROUNDS,
    tasks: Sequence[Task] = TASKS,
    others: Sequence[Path] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare all contenders that are installed.

    Args:
        checkpoint: What the bundle was exported from.
        bundle: With an int8 variant.
        examples: Inputs; those that lose text to a budget, or that other libraries would read otherwise, are left out.
        directory: Where converted models go; it exists.
        threads: Threads of each contender.
        rounds: Runs of each, at least 5 for figures that are published.
        tasks: What is timed.
        others: Further checkpoints, which are exported here and timed on the same tasks; starts and memory are the bundle's alone.
        progress: Told what is going on.

    Returns:
        JSON values: raw times, medians, ratios to ours with their intervals, agreement, and who was left out for what reason.

    Raises:
        DataError: no input that all contenders read alike.
        InputError: not one round, or not one thread.
        PocketSeqError: a contender failed.
    """
    if rounds < 1 or threads < 1:
        raise InputError(f"expected at least one round and one thread, found {rounds} and {threads}")
    count = max(task.rows for task in tasks)
    field = enter(checkpoint, bundle, examples, count, directory=directory, threads=threads, progress=progress)
    manifest, rows, settings, present = field.manifest, field.rows, field.settings, field.present
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(contender, settings)) for contender in field.timed]
        measured = _measured(field, tasks, workers, rounds=rounds, progress=progress)
        # Answers that are edits copy nothing.
        drafts = (
            None if manifest.template.edits else measure_drafts(workers[0], rows[: tasks[0].rows], rounds=rounds, progress=progress)
        )
        memory = {worker.contender.name: worker.resident_bytes() for worker in workers}
        compiling = {worker.contender.name: worker.compile_s for worker in workers if worker.contender.compiled}
    started = [contender for contender in present if not contender.compiled]
    progress("first suggestion of fresh processes")
    return {
        "format": FORMAT,
        "bundle": manifest.name,
        "threads": threads,
        "rounds": rounds,
        "inputs": {"rows": len(rows), "mean_tokens": round(sum(len(row["ids"]) for row in rows) / len(rows), 1)},
        "environment": environment(),
        "tasks": measured,
        "drafts": drafts,
        "start_s": _starts(started, settings, rows[0], rounds),
        "serving_bytes": _serving(started, settings, rows),
        "after_all_tasks_bytes": memory,
        "compile_s": compiling,
        "excluded": dict(field.excluded),
        "others": [
            _other(other, examples, tasks, count, directory=directory, threads=threads, rounds=rounds, progress=progress)
            for other in others
        ],
    }


def _other(
    checkpoint: Path,
    examples: Sequence[Example],
    tasks: Sequence[Task],
    count: int,
    *,
    directory: Path,
    threads: int,
    rounds: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """The same tasks on another checkpoint."""
    name = checkpoint.resolve().name
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=directory))
    progress(f"{name}: exporting the checkpoint")
    program("export.py", str(checkpoint), str(folder / "bundle"), name, expected="a checkpoint that can be exported")
    field = enter(checkpoint, folder / "bundle", examples, count, directory=folder, threads=threads, progress=progress)
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(contender, field.settings)) for contender in field.timed]
        geometry = field.manifest.geometry
        return {
            "name": name,
            "d_model": geometry.d_model,
            "encoder_layers": geometry.encoder_layers,
            "decoder_layers": geometry.decoder_layers,
            "tasks": _measured(field, tasks, workers, rounds=rounds, progress=progress),
            "excluded": dict(field.excluded),
        }


def _starts(
    contenders: Sequence[Contender], settings: Mapping[str, Any], row: Mapping[str, Any], rounds: int
) -> dict[str, dict[str, Any]]:
    """Seconds from nothing to the first answer, in fresh processes, in turns; a start before these compiles each one's modules."""
    taken: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in turned(contenders, number):
            with Worker(contender, settings) as worker:
                worker.ask([row])
                if number:
                    taken[contender.name].append(round(time.perf_counter() - worker.started_s, 4))
    return {
        name: {
            "median": median(times),
            "samples": times,
            "ours_over_theirs": interval_json(paired(taken[OURS.name], times)),
        }
        for name, times in taken.items()
    }


def _serving(contenders: Sequence[Contender], settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Resident memory of a process that has answered every row one by one."""
    found = {}
    for contender in contenders:
        with Worker(contender, settings) as worker:
            worker.ask(rows)
            found[contender.name] = worker.resident_bytes()
    return found


def _measured(
    field: Field, tasks: Sequence[Task], workers: Sequence[Worker], *, rounds: int, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    end_id = field.manifest.geometry.end_id
    return [measure(task, workers, field.rows, rounds=rounds, end_id=end_id, progress=progress) for task in tasks]

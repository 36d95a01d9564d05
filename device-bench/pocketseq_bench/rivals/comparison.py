"""The comparison: first that outputs are the same, then times, in turns."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from tokenizers import Tokenizer

from pocketseq.bundle import open_bundle
from pocketseq.errors import DataError, PocketSeqError
from pocketseq.examples import Example
from pocketseq.manifest import Manifest
from pocketseq.tokenizer import TextTokenizer
from pocketseq_bench.environment import environment
from pocketseq_bench.rivals.contenders import CONTENDERS, CTRANSLATE2_GUIDE, EXCLUDED, OURS, WORKERS, Contender, Worker

FORMAT: Final = 1
ROUNDS: Final = 5
"""Runs of each contender, one after the other and around again."""
SAME: Final = 0.9
"""Share of answers that must be those of transformers in float32, token by token, before a time is quoted: int8 turns some of the
others, a model that was converted wrongly nearly all."""
REFERENCE: Final = "transformers"


@dataclass(frozen=True, slots=True)
class Task:
    """Something that is timed."""

    name: str
    rows: int
    """Inputs of one run."""
    beam: int = 1
    batch: int = 1
    tokens: int | None = None
    """Length that answers are forced to."""


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
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Compare all contenders that are installed.

    Args:
        checkpoint: What the bundle was exported from.
        bundle: With an int8 variant.
        examples: Inputs; those that lose text to a budget, or that other libraries would read otherwise, are left out.
        directory: Where the converted model goes; it exists.
        threads: Threads of each contender.
        rounds: Runs of each, at least 5 for figures that are published.
        tasks: What is timed.
        progress: Told what is going on.

    Returns:
        JSON values: raw times, medians and their ratios to ours, agreement, and who was left out for what reason.

    Raises:
        DataError: no input that all contenders read alike.
        PocketSeqError: a contender failed.
    """
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        rows = _rows(manifest, opened.path(manifest.tokenizer), examples, max(task.rows for task in tasks))
    excluded = dict(EXCLUDED)
    for contender in CONTENDERS:
        if contender.missing:
            excluded[contender.name] = f'not installed: pip install "pocketseq[rivals]" ({", ".join(contender.missing)})'
    present = [contender for contender in CONTENDERS if contender.name not in excluded]
    settings = _settings(manifest, checkpoint, bundle, directory, threads)
    if any("ctranslate2" in contender.modules for contender in present):
        progress("converting the checkpoint for ctranslate2")
        try:
            for kind, converted in settings["converted"].items():
                _convert(checkpoint, converted, kind)
        except PocketSeqError as error:  # its converter follows transformers at a distance
            excluded |= {contender.name: str(error) for contender in present if "ctranslate2" in contender.modules}
            present = [contender for contender in present if contender.name not in excluded]
    timed = [contender for contender in present if contender is not CTRANSLATE2_GUIDE]
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(contender, settings)) for contender in timed]
        measured = [
            _measure(task, workers, rows, rounds=rounds, end_id=manifest.geometry.end_id, progress=progress) for task in tasks
        ]
        # Answers that are edits copy nothing.
        drafts = None if manifest.template.edits else _drafts(workers[0], rows[: tasks[0].rows], rounds=rounds, progress=progress)
        memory = {worker.contender.name: worker.resident_bytes() for worker in workers}
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
        "start_s": _starts(present, settings, rows[0], rounds),
        "serving_bytes": _serving(present, settings, rows),
        "after_all_tasks_bytes": memory,
        "excluded": excluded,
    }


def _rows(manifest: Manifest, tokenizer: Path, examples: Sequence[Example], count: int) -> list[dict[str, Any]]:
    """Inputs as fields, as the prompt that others are given, and as the token ids that both must become."""
    ours, theirs = TextTokenizer.from_file(tokenizer), Tokenizer.from_file(str(tokenizer))
    rows: list[dict[str, Any]] = []
    for example in examples:
        encoded = manifest.template.encode(ours, example.fields, overflow="truncate")
        prompt = theirs.decode(list(encoded.ids), skip_special_tokens=False)
        if not encoded.truncated and theirs.encode(prompt, add_special_tokens=False).ids == list(encoded.ids):
            rows.append({"fields": dict(example.fields), "prompt": prompt, "ids": list(encoded.ids)})
        if len(rows) == count:
            return rows
    if not rows:
        raise DataError("expected inputs that fit the template's budgets and read alike everywhere, found none")
    return [rows[place % len(rows)] for place in range(count)]


def _settings(manifest: Manifest, checkpoint: Path, bundle: str | Path, directory: Path, threads: int) -> dict[str, Any]:
    return {
        "bundle": str(bundle),
        "checkpoint": str(checkpoint),
        "converted": {kind: str(directory / f"ctranslate2-{kind}") for kind in ("int8", "float32")},
        "threads": threads,
        "max_new_tokens": manifest.generation.max_new_tokens,
        "start_id": manifest.geometry.start_id,
        "end_id": manifest.geometry.end_id,
        "pad_id": manifest.geometry.pad_id,
    }


def _convert(checkpoint: Path, directory: str, kind: str) -> None:
    command = [sys.executable, str(WORKERS / "convert.py"), str(checkpoint), directory, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise PocketSeqError(f"{checkpoint}: expected a checkpoint that ctranslate2 converts, found: {done.stderr.strip()[-200:]}")


def _measure(
    task: Task,
    workers: Sequence[Worker],
    rows: Sequence[Mapping[str, Any]],
    *,
    rounds: int,
    end_id: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    given = rows[: task.rows]
    options: dict[str, Any] = {"beam": task.beam, "batch": task.batch, "tokens": task.tokens}
    progress(f"{task.name}: are the answers the same?")
    warm = {worker.contender.name: worker.ask(given, **options) for worker in workers}
    expected = warm.get(REFERENCE, warm[OURS.name])["tokens"]
    # Where the length is forced ours goes on after the end token, and others put a token in its place: they part there.
    lengths = [_length(ids, end_id) for ids in warm[OURS.name]["tokens"]] if task.tokens else [len(ids) + 1 for ids in expected]
    agreement = {name: _agreement(reply["tokens"], expected, lengths) for name, reply in warm.items()}
    quoted = [worker for worker in workers if agreement[worker.contender.name] >= SAME]
    runs: dict[str, list[dict[str, float]]] = {worker.contender.name: [] for worker in quoted}
    for number in range(rounds):
        progress(f"{task.name}: round {number + 1} of {rounds}")
        for worker in quoted:
            reply = worker.ask(given, **options)
            runs[worker.contender.name].append({key: round(reply[key], 6) for key in ("wall_s", "cpu_s")})
    counts = {name: sum(map(len, reply["tokens"])) for name, reply in warm.items()}
    return {
        "name": task.name,
        "rows": len(given),
        "beam": task.beam,
        "batch": task.batch,
        "forced_tokens": task.tokens,
        "same_answers": agreement,
        "tokens": counts,
        "runs": runs,
        "tokens_per_s": {name: round(counts[name] / median(run["wall_s"] for run in taken), 1) for name, taken in runs.items()},
        "ours_over_theirs": _ratios(runs, counts),
    }


def _drafts(worker: Worker, rows: Sequence[Mapping[str, Any]], *, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Our own greedy answers with drafts from the input and without, in turns."""
    plain, drafted = worker.ask(rows), worker.ask(rows, draft=True)
    runs: dict[str, list[float]] = {"plain": [], "drafted": []}
    for number in range(rounds):
        progress(f"drafts: round {number + 1} of {rounds}")
        for name, taken in runs.items():
            taken.append(round(worker.ask(rows, draft=name == "drafted")["wall_s"], 6))
    tokens = sum(map(len, plain["tokens"]))
    return {
        "rows": len(rows),
        "tokens": tokens,
        "same_answers": _agreement(drafted["tokens"], plain["tokens"], [len(ids) + 1 for ids in plain["tokens"]]),
        "runs": runs,
        "tokens_per_s": {name: round(tokens / median(taken), 1) for name, taken in runs.items()},
        "drafted_over_plain": round(median(runs["plain"]) / median(runs["drafted"]), 2),
    }


def _length(ids: Sequence[int], end_id: int) -> int:
    """Tokens before the end token."""
    return list(ids).index(end_id) if end_id in ids else len(ids)


def _agreement(found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]], lengths: Sequence[int]) -> float:
    """Share of answers that are the same in their first tokens, as many as the lengths say."""
    rows = zip(found, expected, lengths, strict=True)
    return round(sum(one[:length] == other[:length] for one, other, length in rows) / len(expected), 4)


def _ratios(runs: Mapping[str, Sequence[Mapping[str, float]]], counts: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Our tokens per second over those of each rival, by wall clock and by processor time (which a busy machine moves less)."""
    if OURS.name not in runs:
        return {}
    ratios: dict[str, dict[str, float]] = {}
    for name, taken in runs.items():
        if name != OURS.name:
            share = counts[OURS.name] / counts[name]
            ratios[name] = {
                clock: round(share * median(run[clock] for run in taken) / median(run[clock] for run in runs[OURS.name]), 2)
                for clock in ("wall_s", "cpu_s")
            }
    return ratios


def _starts(
    contenders: Sequence[Contender], settings: Mapping[str, Any], row: Mapping[str, Any], rounds: int
) -> dict[str, dict[str, Any]]:
    """Seconds from nothing to the first answer, in fresh processes, in turns."""
    taken: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            with Worker(contender, settings) as worker:
                worker.ask([row])
                taken[contender.name].append(round(time.perf_counter() - worker.started_s, 4))
    ours = median(taken[OURS.name])
    return {
        name: {"median": median(times), "samples": times, "ours_over_theirs": round(ours / median(times), 3)}
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

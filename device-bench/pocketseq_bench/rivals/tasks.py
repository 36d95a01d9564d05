"""One task, timed: first that answers are the same, then runs in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, TypeVar

from pocketseq_bench.pairing import CLOCKS, interval_json, ours_over_theirs, paired
from pocketseq_bench.rivals.contenders import OURS, Worker

SAME: Final = 0.9
"""Share of answers that must be those of transformers in float32, token by token, before a time is quoted: int8 turns some of the
others, a model that was converted wrongly nearly all."""
REFERENCE: Final = "transformers"
"""Whose answers are the right ones, where it is there."""
Each = TypeVar("Each")


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


def measure(
    task: Task,
    workers: Sequence[Worker],
    rows: Sequence[Mapping[str, Any]],
    *,
    rounds: int,
    end_id: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Let workers answer a task in turns, another one first in each round.

    Args:
        task: What is timed.
        workers: Contenders, ours first; those whose answers are other ones are not timed.
        rows: Inputs, as many as the task takes or more.
        rounds: Runs of each.
        end_id: Token that ends an answer.
        progress: Told what is going on.

    Returns:
        JSON values: agreement, tokens, raw times, tokens a second, and ratios with their intervals.
    """
    given = rows[: task.rows]
    options: dict[str, Any] = {"beam": task.beam, "batch": task.batch, "tokens": task.tokens}
    progress(f"{task.name}: are the answers the same?")
    warm = {worker.contender.name: worker.ask(given, **options) for worker in workers}
    expected = warm.get(REFERENCE, warm[OURS.name])["tokens"]
    # Where the length is forced ours goes on after the end token, and others put a token in its place: they part there.
    lengths = [_length(ids, end_id) for ids in warm[OURS.name]["tokens"]] if task.tokens else [len(ids) + 1 for ids in expected]
    same = {name: agreement(reply["tokens"], expected, lengths) for name, reply in warm.items()}
    quoted = [worker for worker in workers if same[worker.contender.name] >= SAME]
    runs: dict[str, list[dict[str, float]]] = {worker.contender.name: [] for worker in quoted}
    for number in range(rounds):
        progress(f"{task.name}: round {number + 1} of {rounds}")
        for worker in turned(quoted, number):
            reply = worker.ask(given, **options)
            runs[worker.contender.name].append({clock: round(reply[clock], 6) for clock in CLOCKS})
    counts = {name: sum(map(len, reply["tokens"])) for name, reply in warm.items()}
    return {
        "name": task.name,
        "rows": len(given),
        "beam": task.beam,
        "batch": task.batch,
        "forced_tokens": task.tokens,
        "same_answers": same,
        "tokens": counts,
        "runs": runs,
        "tokens_per_s": {name: round(counts[name] / median(run["wall_s"] for run in taken), 1) for name, taken in runs.items()},
        "ours_over_theirs": {
            name: {clock: interval_json(ratio) for clock, ratio in clocks.items()}
            for name, clocks in ours_over_theirs(OURS.name, runs, counts).items()
        },
    }


def measure_drafts(
    worker: Worker, rows: Sequence[Mapping[str, Any]], *, rounds: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Our own greedy answers with drafts from the input and without, in turns."""
    plain, drafted = worker.ask(rows), worker.ask(rows, draft=True)
    runs: dict[str, list[float]] = {"plain": [], "drafted": []}
    for number in range(rounds):
        progress(f"drafts: round {number + 1} of {rounds}")
        for name in turned([*runs], number):
            runs[name].append(round(worker.ask(rows, draft=name == "drafted")["wall_s"], 6))
    tokens = sum(map(len, plain["tokens"]))
    return {
        "rows": len(rows),
        "tokens": tokens,
        "same_answers": agreement(drafted["tokens"], plain["tokens"], [len(ids) + 1 for ids in plain["tokens"]]),
        "runs": runs,
        "tokens_per_s": {name: round(tokens / median(taken), 1) for name, taken in runs.items()},
        "drafted_over_plain": interval_json(paired(runs["plain"], runs["drafted"])),
    }


def turned(each: Sequence[Each], number: int) -> list[Each]:
    """The same from another one on in each round: who goes first finds the machine as the last of the round before left it."""
    first = number % max(1, len(each))
    return [*each[first:], *each[:first]]


def _length(ids: Sequence[int], end_id: int) -> int:
    """Tokens before the end token."""
    return list(ids).index(end_id) if end_id in ids else len(ids)


def agreement(found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]], lengths: Sequence[int]) -> float:
    """Share of answers that are the same in their first tokens, as many as the lengths say."""
    rows = zip(found, expected, lengths, strict=True)
    return round(sum(one[:length] == other[:length] for one, other, length in rows) / len(expected), 4)

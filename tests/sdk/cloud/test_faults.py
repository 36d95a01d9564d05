"""Ten thousand randomised faults: every call ends, with the local answer or a typed error, and no secret shows."""

from __future__ import annotations

import gc
from pathlib import Path

from tests.sdk.cloud.faults.calls import run_in_memory, run_on_sockets
from tests.sdk.cloud.faults.tally import Tally, listening

FAR_TOO_LATE_MS = 5_000
"""Not a measure of time: it tells a call that waits for something other than its deadline, beyond what a thread that only sleeps
was late by then, from one on a busy machine."""


def look(tally: Tally, faults: int) -> None:
    assert tally.wrong == []
    assert tally.met >= faults
    assert sum(tally.ended.values()) == len(tally.late)
    assert tally.ended["cloud"] > 0
    assert tally.ended["local"] > 0
    assert max(one.whole - one.sleeper for one in tally.late) < FAR_TOO_LATE_MS


def test_most_faults_are_met_in_memory(tmp_path: Path) -> None:
    """An endpoint that raises, overstays, drips, breaks off, answers nonsense and quotes keys, while the clock jumps by days."""
    heard = Tally()
    with listening(heard):
        tally = run_in_memory(9_500, seed=1, threads=16, budgets=tmp_path)
    look(tally, 9_500)
    assert heard.wrong == []


def test_some_faults_are_met_on_a_real_socket(tmp_path: Path) -> None:
    """A server that refuses, resets, drips, redirects and speaks everything but the contract; every debug log is read."""
    heard = Tally()
    with listening(heard) as listener:
        tally = run_on_sockets(500, seed=100_000, threads=3, budgets=tmp_path)
    look(tally, 500)
    assert heard.wrong == []
    assert listener.heard > 1_000
    gc.collect()  # a socket that is left open shall be told here, not in another test

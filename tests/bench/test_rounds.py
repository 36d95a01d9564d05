"""Rounds, and who takes part in them: groups where memory is short, what is metered, and a time without a pause."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.bench.benches import UNTOLD
from tests.bench.test_benchmark import BRIEF, INPUTS, SETTINGS, measure
from tests.sdk.tiny import write_bundle

from pocketseq_bench.device import EnergyMeter
from pocketseq_bench.document import MachineState
from pocketseq_bench.measuring import benchmark as benchmark_module
from pocketseq_bench.measuring import progress as progress_module
from pocketseq_bench.measuring import rounds as rounds_module
from pocketseq_bench.measuring.journal import Journal
from pocketseq_bench.measuring.plan import Plan
from pocketseq_bench.measuring.processes import Process
from pocketseq_bench.measuring.progress import ROUNDS, STARTS, Bench


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants, not to be changed."""
    directory = tmp_path_factory.mktemp("rounds") / "tiny"
    write_bundle(directory)
    return directory


def test_where_memory_is_short_no_ratio_tells_of_two_groups(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is measured by itself then, all the rounds that it needs, and says against what it was not in turns."""
    monkeypatch.setattr(benchmark_module, "available_bytes", lambda: 0)
    said: list[str] = []
    document = measure(bundle, said, settings=replace(SETTINGS, cold_starts=0, sustained_minutes=0.0))
    fp32, half = document.rows
    assert "memory is short: the other configurations are measured after these, and no ratios tell of both" in said
    assert [len(row.stages_ms["total"].rounds) for row in (fp32, half)] == [4, 4]
    assert fp32.relative.value == 1
    assert (half.relative.value, half.relative.low) == (None, None)
    assert half.relative.reason == "measured at another time than onnx/fp32, not in turns"
    assert "Ratios between configurations" not in document.conduct.verdict


def test_groups_share_the_time(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first does not take the rounds of those after it; what an interrupted run measured is of groups of its own."""
    now = [1000.0]
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    plan = Plan.make(bundle, inputs=INPUTS, settings=replace(SETTINGS, budget_s=600.0))
    journal = Journal(None, fingerprint="")
    journal.add("turn", "onnx/fp32", 0, {"group": 4})
    untold = MachineState(UNTOLD, UNTOLD)
    bench = Bench(plan, journal, lambda _: None, before=untold, _began=now[0])
    assert bench.has_time(STARTS)
    now[0] += 120
    assert not bench.has_time(STARTS)
    bench.processes["onnx/fp32"] = cast("Process", None)
    bench.begin_group(since_s=bench.seconds, waiting=1)
    assert bench.group == 5
    now[0] += ROUNDS * 240 - 1
    assert bench.has_time(ROUNDS)
    now[0] += 1
    assert not bench.has_time(ROUNDS)
    now[0] += 60
    assert not bench.has_time(1.0)
    bench.begin_group(since_s=bench.seconds, waiting=0)
    now[0] += ROUNDS * 240 - 1
    assert bench.has_time(ROUNDS)


def test_energy_is_that_of_suggestions_alone(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixed loop that tells of the machine stands before the span that is metered."""
    happened: list[str] = []
    ask = Process.ask

    class Meter(EnergyMeter):
        def start(self) -> None:
            happened.append("start")

        def stop(self) -> None:
            happened.append("stop")

    def noted(self: Process, do: str, **arguments: Any) -> dict[str, Any]:
        happened.append(do)
        return ask(self, do, **arguments)

    monkeypatch.setattr(rounds_module, "EnergyMeter", Meter)
    monkeypatch.setattr(Process, "ask", noted)
    (row,) = measure(bundle, settings=BRIEF).rows
    spans = ",".join(happened).split("loop,start,turn,stop")
    assert len(spans) == 1 + len(row.stages_ms["total"].rounds)
    assert not any("start" in rest or "stop" in rest for rest in spans)


def test_a_batch_is_never_cut_short(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suggestions a second are told by the median call, which is to be one of as many inputs as all others."""
    asked: set[tuple[int, int]] = set()
    ask = Process.ask

    def noted(self: Process, do: str, **arguments: Any) -> dict[str, Any]:
        if do == "batch":
            asked.add((arguments["size"], len(arguments["rows"])))
        return ask(self, do, **arguments)

    monkeypatch.setattr(Process, "ask", noted)
    (row,) = measure(bundle, settings=replace(BRIEF, batches=(1, 3, 4, 5))).rows
    assert asked == {(1, 4), (3, 6), (4, 4), (5, 5)}
    assert [len(found.call_ms.rounds[0]) for found in row.throughput] == [4, 2, 1, 1]


def test_windows_are_as_long_as_they_say(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of two seconds in windows that were to be shorter: three of them are the six seconds that it took."""
    now = [0.0]

    def later() -> float:
        now[0] += 2.0
        return now[0]

    monkeypatch.setattr(rounds_module, "time", SimpleNamespace(monotonic=later))
    (row,) = measure(bundle, settings=replace(BRIEF, sustained_minutes=0.1)).rows
    assert row.sustained is not None
    assert (row.sustained.window_s, len(row.sustained.medians_ms)) == (3.0, 2)


def test_the_shortest_time_without_a_pause_has_a_turn(bundle: Path) -> None:
    """However short it is, something was answered."""
    (row,) = measure(bundle, settings=replace(BRIEF, sustained_minutes=1e-9)).rows
    assert row.sustained is not None
    assert len(row.sustained.medians_ms) == 1

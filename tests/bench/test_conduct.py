"""How a machine behaved, and what holds all the same: turns made by hand, small enough to check."""

from __future__ import annotations

from typing import Any

import pytest
from tests.bench.benches import UNTOLD
from tests.sdk.tiny import write_bundle

from pocketseq import Example
from pocketseq_bench.document import BenchDocument, MachineState
from pocketseq_bench.measuring import BenchInputs, BenchSettings
from pocketseq_bench.measuring.conduct import Circumstances
from pocketseq_bench.measuring.journal import Journal
from pocketseq_bench.measuring.plan import Plan
from pocketseq_bench.measuring.summary import summarize
from pocketseq_bench.row import Reading

STATE = MachineState(UNTOLD, UNTOLD)
ROUNDS = 6


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    directory = tmp_path_factory.mktemp("conduct") / "tiny"
    write_bundle(directory)
    rows = [Example(id="1", fields={"text": "x"}, target="y"), Example(id="2", fields={"text": "y"}, target="y")]
    return Plan.make(directory, inputs=BenchInputs.of_examples(rows, origin="rows"), settings=BenchSettings(turn_rows=2))


def turn(wall: list[float], processor: list[float]) -> dict[str, Any]:
    values = {"group": 0, "rows": [0, 1], "energy_mj": [None, "no sensor"], "loop_ms": 5.0, "total": wall, "processor": processor}
    stages = {name: [ms / 4 for ms in wall] for name in ("tokenize", "encode", "decode", "detokenize")}
    return {**values, **stages, "tokens": [2, 2], "answers": ["y", "y"]}


def summary(plan: Plan, turns: dict[str, dict[str, Any]], *, overheads: tuple[float, ...] = ()) -> BenchDocument:
    journal = Journal(None, fingerprint="")
    for label, values in turns.items():
        for number in range(ROUNDS):
            journal.add("turn", label, number, values)
    for number, share in enumerate(overheads):
        journal.add("overhead", "onnx/half", number, {"bare_ms": 100.0, "timed_ms": 100.0 * (1 + share)})
    circumstances = Circumstances(10.0, Reading(0.0), Reading(0.0), STATE, STATE, 0.0, resumed=False)
    return summarize(plan, journal, {}, circumstances)


def test_a_neighbour_on_the_processor_does_not_move_the_ratio(plan: Plan) -> None:
    """Turns of 4 ms each: a short call seldom meets it, a long one always, so that by wall clock 4 of 12 ms look like 4 of 20."""
    found = summary(plan, {"onnx/fp32": turn([20.0, 20.0], [12.0, 12.0]), "onnx/half": turn([4.0, 4.0], [4.0, 4.0])})
    first, second = found.rows
    assert first.relative.value == 1
    assert second.relative.value == pytest.approx(1 / 3, abs=1e-4)
    assert second.relative.low == second.relative.high == second.relative.value
    assert second.relative.reason == "against onnx/fp32, by processor time"


def test_what_suggestions_waited_for_a_processor_is_noise(plan: Plan) -> None:
    """A third of the time here, so that another run may differ by as much."""
    found = summary(plan, {"onnx/fp32": turn([20.0, 20.0], [12.0, 12.0]), "onnx/half": turn([4.0, 4.0], [4.0, 4.0])})
    assert found.conduct.waited.value == pytest.approx(16 / 48, abs=1e-4)
    assert "suggestions waited 33% of their time for a processor; another run may differ by 33% or more" in found.conduct.verdict
    quiet = summary(plan, {"onnx/fp32": turn([12.0, 12.0], [12.0, 12.0]), "onnx/half": turn([4.0, 4.0], [4.0, 4.0])})
    assert quiet.conduct.quiet


def test_ratios_are_against_the_first_that_was_measured(plan: Plan) -> None:
    """A reference that crashed leaves the others one."""
    found = summary(plan, {"onnx/half": turn([4.0, 4.0], [4.0, 4.0])})
    assert found.rows[0].relative.value is None
    assert found.rows[1].relative.reason.startswith("against onnx/half")


def test_rounds_of_another_group_have_no_ratio(plan: Plan) -> None:
    """They were measured later, when the machine may have been another one; and the verdict claims no turns of them."""
    fp32, half = turn([20.0, 20.0], [12.0, 12.0]), turn([4.0, 4.0], [4.0, 4.0])
    found = summary(plan, {"onnx/fp32": fp32, "onnx/half": {**half, "group": 1, "loop_ms": 6.0}})
    assert found.rows[1].relative.value is None
    assert found.rows[1].relative.reason == "measured at another time than onnx/fp32, not in turns"
    assert not found.conduct.quiet
    assert "Ratios" not in found.conduct.verdict
    assert len(found.conduct.loop_ms.rounds) == 2 * ROUNDS
    assert (
        "Ratios between configurations are safer, as they took turns"
        in summary(plan, {"onnx/fp32": fp32, "onnx/half": half}).conduct.verdict
    )


def test_a_run_that_measured_nothing_is_not_quiet(plan: Plan) -> None:
    """No two of them can be expected to agree."""
    conduct = summary(plan, {}).conduct
    assert not conduct.quiet
    assert conduct.verdict == "nothing was measured"


def test_the_harness_s_overhead_has_an_interval(plan: Plan) -> None:
    """The median of pairs of loops, and what it is at most."""
    conduct = summary(plan, {"onnx/half": turn([4.0, 4.0], [4.0, 4.0])}, overheads=(0.0, 0.01, 0.02)).conduct
    assert conduct.harness_overhead == 0.01
    assert conduct.harness_overhead_at_most == 0.02

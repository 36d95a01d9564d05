"""Comparing two benchmarks, for people and for a CI."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.bench.benches import DEVICE, document, row

from pocketseq.cli import main
from pocketseq.errors import InputError
from pocketseq_bench.document import BenchDocument, write_document
from pocketseq_bench.intervals import samples
from pocketseq_bench.regression import Condition, cautions, compare, lost
from pocketseq_bench.row import Startup


def bench(ms: float, *, noise: float = 0.02, seed: int = 0, size_bytes: int = 5_000_000, exact_match: float = 0.6) -> BenchDocument:
    rng = np.random.default_rng(seed)
    total = samples([(ms * (1 + noise * rng.normal()) * (1 + noise * rng.normal(size=16))).tolist() for _ in range(12)])
    return document(row("int8", size_bytes, exact_match, stages_ms={"total": total}))


def fails(before: BenchDocument, after: BenchDocument, condition: str) -> bool:
    wanted = Condition.parse(condition)
    return any(change.fails(wanted) for change in compare(before, after, [wanted.metric]))


def test_a_slowdown_beyond_the_limit_fails_and_one_within_does_not() -> None:
    """A fifth slower is more than a tenth; a twentieth is not."""
    assert fails(bench(10), bench(12, seed=1), "p50>+10%")
    assert not fails(bench(10), bench(10.5, seed=1), "p50>+10%")
    assert not fails(bench(10), bench(8, seed=1), "p50>+10%")


def test_what_chance_may_bring_seldom_fails() -> None:
    """Two runs of one thing on a noisy machine: about one pair in twenty differs, and no gate is built on a coin."""
    alarms = [
        change.significant
        for seed in range(30)
        for change in compare(bench(10, noise=0.2, seed=seed), bench(10, noise=0.2, seed=100 + seed), ["p50"])
    ]
    assert sum(alarms) <= 5


def test_a_machine_that_changed_as_a_whole_is_no_regression() -> None:
    """A fixed loop takes a fifth longer, and so does the model; half as long again is still the model's own."""
    slow = replace(bench(10).conduct, loop_ms=samples([[6.0]]))
    assert not fails(bench(10), replace(bench(12, seed=1), conduct=slow), "p50>+10%")
    assert fails(bench(10), replace(bench(15, seed=1), conduct=slow), "p50>+10%")
    assert "a fixed loop took 1.20 times as long" in cautions(bench(10), replace(bench(10), conduct=slow))[0]


def test_processor_time_is_compared_whatever_the_neighbours_do() -> None:
    """Beside a neighbour the loop takes twice as long now and then: half as much work again is a regression all the same."""
    busy = replace(bench(10).conduct, loop_ms=samples([[5.0, 10.0, 10.0]]))
    after = document(replace(bench(10).rows[0], processor_ms=bench(15, seed=1).rows[0].stages_ms["total"]), conduct=busy)
    before = document(replace(bench(10).rows[0], processor_ms=bench(10).rows[0].stages_ms["total"]))
    assert fails(before, after, "cpu>+10%")
    assert not fails(before, replace(before, conduct=busy), "cpu>+10%")


def test_quality_over_other_inputs_is_not_compared() -> None:
    """A run whose time was up has asked fewer."""
    after = bench(10, exact_match=0.5)
    after = replace(after, rows=(replace(after.rows[0], quality_n=3),))
    assert not fails(bench(10), after, "exact_match<-1%")
    assert cautions(bench(10), after) == ["not all inputs were asked both times: quality is not compared there"]


def test_times_and_quality_of_other_inputs_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many rows, but other ones: the answers are of other work; what a bundle weighs is what it was."""
    other = bench(20, exact_match=0.5, size_bytes=6_000_000)
    other = replace(other, inputs=replace(other.inputs, hash="3" * 16))
    for condition in ("exact_match<-1%", "p50>+10%", "cpu>+10%"):
        assert not fails(bench(10), other, condition)
    assert fails(bench(10), other, "size>+10%")
    assert cautions(bench(10), other) == ["other inputs: times and quality are not of the same work, and not compared"]
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    write_document(before, bench(10))
    write_document(after, other)
    assert main(["bench", "compare", str(before), str(after), "--fail-if", "exact_match<-1%"]) == 0
    assert "exact_match cannot be compared; nobody can tell whether exact_match<-1%" in capsys.readouterr().out


def test_a_single_start_fails_no_gate() -> None:
    """Twice as long to load, once: it may be chance."""
    before, after = (
        document(replace(bench(10).rows[0], startup=Startup(samples([[100.0]]), samples([[load]]), samples([[25.0]]))))
        for load in (50.0, 100.0)
    )
    assert not fails(before, after, "load>+10%")


def test_size_and_quality_are_taken_as_they_are() -> None:
    """The same files and inputs give the same numbers, so that any difference is one."""
    assert fails(bench(10), bench(10, size_bytes=5_600_000), "size>+10%")
    assert fails(bench(10), bench(10, exact_match=0.59), "exact_match<-1%")
    assert not fails(bench(10), bench(10), "exact_match<-1%")


@pytest.mark.parametrize("text", ["p50", "p50>10", "p51>+10%", "p50=10%", ">5%"])
def test_a_condition_that_cannot_be_read_is_refused(text: str) -> None:
    """With the form and the metrics that there are."""
    with pytest.raises(InputError, match=r"expected a condition such as 'p50>\+10%' with a metric among p50"):
        Condition.parse(text)


def test_a_condition_reads_as_it_is_written() -> None:
    """For the line that tells which one was met."""
    assert str(Condition.parse(" p95 > +7.5 %")) == "p95>+7.5%"


def test_a_configuration_that_is_gone_is_told() -> None:
    """Not measured any more is no improvement."""
    broken = document(row("int8", 5_000_000, 0.6, stages_ms={}, status="crashed", problem="the process died"))
    assert lost(bench(10), broken) == ["onnx/int8: crashed: the process died"]
    assert lost(bench(10), document()) == ["onnx/int8: not there"]


def test_another_machine_and_noise_are_cautioned_about() -> None:
    """Numbers of different work or different machines do not compare."""
    other = replace(bench(10), device=replace(DEVICE, processor="another"))
    other = replace(other, conduct=replace(other.conduct, quiet=False, verdict="noisy: much"))
    assert cautions(bench(10), bench(11)) == []
    assert [line.split(":")[0] for line in cautions(bench(10), other)] == ["other machine", "after"]


def test_the_command_tells_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where nothing must stop, 1 where a condition is met, 2 for a file that is none."""
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    write_document(before, bench(10))
    write_document(after, bench(13, seed=1))
    assert main(["bench", "compare", str(before), str(after)]) == 0
    assert "differs" in capsys.readouterr().out
    assert main(["bench", "compare", str(before), str(after), "--fail-if", "p50>+10%", "--fail-if", "size>+5%"]) == 1
    assert "failed: onnx/int8: p50>+10%" in capsys.readouterr().out
    write_document(after, replace(bench(10), rows=(replace(bench(10).rows[0], processor_ms=None),)))
    assert main(["bench", "compare", str(before), str(after), "--fail-if", "cpu>+10%"]) == 0
    assert "cpu was not measured both times; nobody can tell whether cpu>+10%" in capsys.readouterr().out
    before.write_text("{}", encoding="utf-8")
    assert main(["bench", "compare", str(before), str(after)]) == 2
    assert "found another document" in capsys.readouterr().err

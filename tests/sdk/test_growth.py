"""Memory: a model that has answered ten thousand times holds no more than one that has answered a few."""

from __future__ import annotations

import gc
from pathlib import Path

import psutil
import pytest

from pocketseq import BatchQueue, Cancellation, Constraints, PocketModel, Sampling

MEGABYTE = 2**20


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
def test_ten_thousand_suggestions_leave_no_trace() -> None:
    """Lines that were never seen before, every tenth with a slip, of the bundle that ships: 8 MB at most over the warm one."""
    with PocketModel.load("python-fix") as model:

        def suggest(first: int, last: int) -> None:
            for number in range(first, last):
                model.generate(f"x{number} = y_{number}" if number % 10 else f"retrun name_{number}")

        suggest(0, 500)
        before = resident_bytes()
        suggest(500, 10_500)
        assert resident_bytes() - before < 8 * MEGABYTE


def test_ways_of_asking_leave_no_trace(pristine_bundle: Path) -> None:
    """Streams left half-way, cancelled answers, samples, grammars, scores and a queue."""
    with PocketModel.load(pristine_bundle) as model:

        def ask(times: int) -> None:
            for number in range(times):
                next(model.stream(f"text {number}", max_new_tokens=8), None)
                cancellation = Cancellation()
                cancellation.cancel()
                model.generate(f"text {number}", cancellation=cancellation)
                model.generate("x", sampling=Sampling(seed=number), alternatives=2, pooled=True, max_new_tokens=4)
                model.score("x", f"text {number}")
                if number % 10 == 0:
                    model.generate("x", constraints=Constraints(choices=("ab", f"c{number}")))
                    with BatchQueue(model) as queue:
                        queue.generate("x", max_new_tokens=2)

        ask(200)
        before = resident_bytes()
        ask(1000)
        assert resident_bytes() - before < 8 * MEGABYTE


def test_a_closed_model_gives_its_memory_back() -> None:
    """Opened and closed a dozen times, the bundle that ships takes no more than opened a few times."""

    def once() -> None:
        with PocketModel.load("python-fix") as model:
            model.generate("retrun x")

    for _ in range(3):
        once()
    before = resident_bytes()
    for _ in range(12):
        once()
    assert resident_bytes() - before < 12 * MEGABYTE

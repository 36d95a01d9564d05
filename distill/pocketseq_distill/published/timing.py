"""How long models take for one answer, measured in turns, so that whatever disturbs the machine disturbs all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from pocketseq_distill.evaluation import Latency, one_thread

Ask: TypeAlias = Callable[[Mapping[str, str]], Any]
"""Fields of one input → an answer."""

_WARM_UP_ROWS = 5


def time_in_turns(models: Mapping[str, Ask], inputs: Sequence[Mapping[str, str]]) -> dict[str, Latency]:
    """Let every model answer each input, one model after the other, on one thread.

    Args:
        models: What answers, by name.
        inputs: What is asked, at least one; the first few are asked once more beforehand, which is not counted.

    Returns:
        Median and 95th percentile by name.
    """
    samples: dict[str, list[float]] = {name: [] for name in models}
    with one_thread():
        for number, fields in enumerate([*inputs[:_WARM_UP_ROWS], *inputs]):
            for name, ask in models.items():
                begin = time.perf_counter()
                ask(fields)
                if number >= min(_WARM_UP_ROWS, len(inputs)):
                    samples[name].append(1000 * (time.perf_counter() - begin))
    found = {name: np.percentile(times, [50, 95]) for name, times in samples.items()}
    return {name: Latency(p50=round(float(p50), 3), p95=round(float(p95), 3)) for name, (p50, p95) in found.items()}

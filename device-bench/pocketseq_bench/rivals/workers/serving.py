"""What every worker does: read requests as lines of JSON, answer each with a line of JSON, time nothing but the answers.

A worker is a program of its own, started in a process of its own, so that no contender pays for another's libraries.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

Answer = tuple[list[int], list[float]]
"""Token ids with the end token where it came, and their log-probabilities (only their sum where a library gives no more)."""


def serve(answer: Callable[[Sequence[Any], dict[str, Any]], list[Answer]], *, also: Callable[[], dict[str, float]] = dict) -> None:
    """Answer requests until the input ends.

    Args:
        answer: From some inputs and the request they came with to an answer for each.
        also: What a reply tells besides.
    """
    for line in sys.stdin:
        request = json.loads(line)
        rows, batch = request["rows"], request["batch"]
        groups = [rows[first : first + batch] for first in range(0, len(rows), batch)]
        started, before = time.perf_counter(), time.process_time()
        answers = [one for group in groups for one in answer(group, request)]
        reply = {
            "wall_s": time.perf_counter() - started,
            "cpu_s": time.process_time() - before,
            "tokens": [tokens for tokens, _ in answers],
            "logprobs": [logprobs for _, logprobs in answers],
            **also(),
        }
        print(json.dumps(reply), flush=True)

"""Scoring: the log-probabilities of answers that are given, in one decoder step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pocketseq.confidence.evidence import spread_of
from pocketseq.decoding.emission import Decoded, likeliest
from pocketseq.runtimes.protocol import AnyRuntime, Ids


def score_targets(
    runtime: AnyRuntime,
    memory: Any,
    *,
    prompt: Sequence[int],
    targets: Sequence[Sequence[int]],
    pad_id: int,
    alternatives: int = 0,
    spread: bool = False,
) -> list[Decoded]:
    """Read every target at once and say how likely each of its tokens was.

    Args:
        runtime: What runs the model.
        memory: What its ``encode`` gave.
        prompt: Tokens that the decoder is given first.
        targets: The tokens of each row's answer, end token included, at least one.
        pad_id: Fills the shorter targets; no token sees what comes after it.
        alternatives: How many of the likeliest tokens to give at each place.
        spread: Whether to give the spread of the distribution at each place.
    """
    longest = max(map(len, targets))
    tokens: Ids = np.full((len(targets), len(prompt) + longest - 1), pad_id, dtype=np.int64)
    for row, target in enumerate(targets):
        read = [*prompt, *target[:-1]]
        tokens[row, : len(read)] = read
    scores = runtime.step(tokens, memory, runtime.start(len(targets))).logprobs[:, len(prompt) - 1 :]
    return [
        Decoded(
            ids=tuple(target),
            logprobs=tuple(scores[row, np.arange(len(target)), list(target)].tolist()),
            finish_reason="stop",
            alternatives=tuple(likeliest(scores[row, place], alternatives) for place in range(len(target))) if alternatives else (),
            spread=tuple((entropy, gap) for entropy, gap in spread_of(scores[row, : len(target)]).tolist()) if spread else (),
        )
        for row, target in enumerate(targets)
    ]

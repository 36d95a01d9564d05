"""A question with its answer inside the program, so that a device can tell whether its runtime computes what it should.

Runtimes exist that load a program and silently compute something else: tflite-runtime 2.14 knows nothing of scales by channel in
products of integers. Versions do not tell which, since many vendors build their own; a question does.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pocketseq.errors import CheckpointError
from pocketseq.runtimes.litert_program import PROBE_IDS, PROBE_LOGPROBS, PROBE_POOLED, LiteRtProgram, probed
from pocketseq_export.tflite.flatbuffer import add_constant

TOKENS: Final = 24
"""Of the question."""


def add_probe(program: Any, content: bytes, *, vocab_size: int) -> None:
    """Ask a program, run by the LiteRT that is installed here, and write question and answer into it.

    Args:
        program: The tree to change.
        content: The same program, serialized.
        vocab_size: Tokens that a source may hold.

    Raises:
        CheckpointError: the answer is no numbers, and no device could tell whether its own is the same.
    """
    asked = LiteRtProgram(content)
    ids = np.random.default_rng(0).integers(0, vocab_size, min(TOKENS, asked.lengths[-1])).astype(np.int32)
    pooled, logprobs = asked.ask(ids)
    if not (np.isfinite(pooled).all() and np.isfinite(logprobs).all()):
        raise CheckpointError(
            "expected a program that answers in numbers, found NaN or infinity in its answer; "
            "the checkpoint's weights are too large to compute with: train it anew"
        )
    add_constant(program, PROBE_IDS, ids)
    add_constant(program, PROBE_POOLED, pooled)
    add_constant(program, PROBE_LOGPROBS, logprobs[probed(len(logprobs))])

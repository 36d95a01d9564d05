"""Judging: a model's answers to rows, with all that a scorer may look at, and what each would cost if it were served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pocketseq.calibration.losses import EXACT, Loss
from pocketseq.confidence import DEFAULT_SCORER, SCORERS, Evidence, Scoring
from pocketseq.errors import CalibrationError
from pocketseq.examples import Example
from pocketseq.model import PocketModel
from pocketseq.runtimes.protocol import Floats


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer whose loss is known."""

    id: str
    """The row's id, by which rows are divided."""
    loss: float
    """0 for right to 1 for wrong."""
    evidence: Evidence
    """What scorers may look at."""
    pooled: Floats | None = None
    """Pooled encoder state, float32 [d_model]; None where there is none."""
    latency_ms: float = 0.0
    """From the call to the answer."""
    cloud_loss: float = 0.0
    """Loss of the answer that the cloud would give; 0 where the cloud is taken to be always right."""


def judge(
    model: PocketModel,
    examples: Sequence[Example],
    loss: Loss = EXACT,
    *,
    cloud: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Judged]:
    """Let a model answer labelled rows, one by one as it is served: in a batch it may round, and so answer, differently.

    Args:
        model: The model.
        examples: Labelled rows.
        loss: What counts as wrong.
        cloud: What the cloud answers to each row, by its id; None takes the cloud to be always right.
        progress: Called with the number of rows answered, after each.

    Raises:
        CalibrationError: a row that ``cloud`` has no answer to.
        InputError: a row that the model's template does not take.
    """
    if cloud is not None and (missing := [row.id for row in examples if row.id not in cloud]):
        raise CalibrationError(
            f"expected the cloud's answer to each row, found none to {len(missing)} of {len(examples)} ({missing[0]!r:.80}); "
            "leave these rows out, or let the cloud answer them"
        )
    everything = Scoring(scorer=replace(SCORERS[DEFAULT_SCORER], looks_at_spread=True))
    watched = model.scored_by(everything)
    judged = []
    for number, row in enumerate(examples, start=1):
        result = watched.generate(row.fields, pooled=True)
        evidence = result.evidence or Evidence(result.token_logprobs)
        cost = loss(result.text, row.target)
        judged.append(
            Judged(
                id=row.id,
                loss=cost,
                evidence=evidence,
                pooled=np.array(result.pooled, dtype=np.float32),
                latency_ms=result.timing.total_ms,
                cloud_loss=0.0 if cloud is None else loss(cloud[row.id], row.target),
            )
        )
        if progress is not None:
            progress(number)
    return judged

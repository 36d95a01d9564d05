"""What the learned scorer looks at: each feature a finite number by a name, from one answer's evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from pocketseq.confidence.evidence import Evidence
from pocketseq.confidence.rules import quantile

_LEAST: Final = -50.0
"""Log-probabilities below this one, and gaps above its negative, say no more: it also stands for infinity."""
_QUANTILES: Final = {"logprob_minimum": 0.0, "logprob_q10": 0.1, "logprob_q25": 0.25, "logprob_q50": 0.5, "logprob_q75": 0.75}


def features(evidence: Evidence) -> Mapping[str, float]:
    """The features of an answer by name; its keys are ``FEATURES``.

    Args:
        evidence: With at least one token, and with entropies and gaps.
    """
    logprobs = [max(logprob, _LEAST) for logprob in evidence.logprobs]
    gaps = [min(gap, -_LEAST) for gap in evidence.gaps]
    count, total = len(logprobs), math.fsum(logprobs)
    entropy = math.fsum(evidence.entropies)
    ordered = sorted(logprobs)
    return {
        **{name: quantile(ordered, level) for name, level in _QUANTILES.items()},
        "logprob_maximum": ordered[-1],
        "logprob_mean": total / count,
        "logprob_sum": max(total, _LEAST),
        "probability": math.exp(min(0.0, total)),
        "probability_minimum": math.exp(min(0.0, ordered[0])),
        "probability_first": math.exp(min(0.0, logprobs[0])),
        "logprob_last": logprobs[-1],
        "length": float(count),
        "gap_minimum": min(gaps),
        "gap_mean": math.fsum(gaps) / count,
        "gap_first": gaps[0],
        "closeness": math.exp(-max(0.0, min(gaps))),
        "entropy_mean": entropy / count,
        "entropy_sum": entropy,
        "entropy_maximum": max(evidence.entropies),
        "entropy_first": evidence.entropies[0],
        "input_length": math.log1p(evidence.input_tokens),
        "repetition": 1 - len(set(evidence.tokens)) / count,
        "truncated": float(evidence.truncated),
        "finished": float(evidence.finished),
        "gate": evidence.gate or 0.0,
    }


FEATURES: Final = tuple(features(Evidence((0.0,), (0,), (0.0,), (0.0,))))
"""Names of all features: quantiles, mean and sum of the log-probabilities, the probabilities of the answer, of its least probable
and of its first token, lengths, top-2 gaps, entropies, repetition, whether the input was cut and the answer ended, and what the
gate made of the pooled encoder state."""

"""What the learned scorer looks at: each feature a finite number by a name, from one answer's evidence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from pocketseq.confidence.evidence import Evidence
from pocketseq.confidence.rules import quantile

_LEAST: Final = -50.0
"""Log-probabilities below this one, and gaps above its negative, say no more: it also stands for infinity."""
_QUANTILES: Final = {"logprob_minimum": 0.0, "logprob_q10": 0.1, "logprob_q25": 0.25, "logprob_q50": 0.5, "logprob_q75": 0.75}


def features(evidence: Evidence) -> Mapping[str, float]:
    """The features of an answer by name; its keys are ``FEATURES``, or ``PLAIN_FEATURES`` where there is no spread.

    Args:
        evidence: With at least one token.
    """
    found = {**_probabilities(evidence), **_copies(evidence), "gate": evidence.gate or 0.0}
    return found | _spread(evidence) if evidence.entropies else found


def _probabilities(evidence: Evidence) -> dict[str, float]:
    """How likely the tokens are, and the form of the answer."""
    logprobs = [max(logprob, _LEAST) for logprob in evidence.logprobs]
    count, total = len(logprobs), math.fsum(logprobs)
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
        "input_length": math.log1p(len(evidence.source)),
        "repetition": 1 - len(set(evidence.tokens)) / count,
        "truncated": float(evidence.truncated),
        "finished": float(evidence.finished),
    }


def _copies(evidence: Evidence) -> dict[str, float]:
    """What of the answer stands in the input already: a name that nobody wrote is more often wrong than one that is copied."""
    there, pairs_there = Counter(evidence.source), set(pairwise(evidence.source))
    logprobs = [max(logprob, _LEAST) for logprob in evidence.logprobs]
    new = [logprob for token, logprob in zip(evidence.tokens, logprobs, strict=True) if token not in there]
    joined = list(zip(pairwise(evidence.tokens), logprobs[1:], strict=True))
    newly_joined = [logprob for pair, logprob in joined if pair not in pairs_there]
    return {
        "copied": 1 - len(new) / len(logprobs),
        "novel": float(len(new)),
        "novel_logprob": math.fsum(new),
        "copied_pairs": 1 - len(newly_joined) / max(1, len(joined)),
        "novel_pairs": float(len(newly_joined)),
        "novel_pairs_logprob": math.fsum(newly_joined),
        "familiarity": math.fsum(math.log1p(there[token]) for token in evidence.tokens) / len(logprobs),
    }


def _spread(evidence: Evidence) -> dict[str, float]:
    """What the whole distributions say, at some microseconds a token."""
    gaps = [min(gap, -_LEAST) for gap in evidence.gaps]
    entropy = math.fsum(evidence.entropies)
    return {
        "gap_minimum": min(gaps),
        "gap_mean": math.fsum(gaps) / len(gaps),
        "gap_first": gaps[0],
        "closeness": math.exp(-max(0.0, min(gaps))),
        "entropy_mean": entropy / len(gaps),
        "entropy_sum": entropy,
        "entropy_maximum": max(evidence.entropies),
        "entropy_first": evidence.entropies[0],
    }


PLAIN_FEATURES: Final = tuple(features(Evidence((0.0,), (0,))))
"""Names of the features that cost nothing at the tokens: quantiles, mean and sum of the log-probabilities, the probabilities of the
answer, of its least probable and of its first token, lengths, repetition, whether the input was cut and the answer ended, what of
it stands in the input, and what the gate made of the pooled encoder state."""
FEATURES: Final = tuple(features(Evidence((0.0,), (0,), entropies=(0.0,), gaps=(0.0,))))
"""Names of all features: the plain ones, then top-2 gaps and entropies."""

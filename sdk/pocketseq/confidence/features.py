"""What the learned scorer looks at: each feature a finite number by a name, from one answer's evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from pocketseq.confidence.evidence import Evidence
from pocketseq.confidence.rules import quantiles

_LEAST: Final = -50.0
"""Log-probabilities below this one, and gaps above its negative, say no more: it also stands for infinity."""
_LEVELS: Final = (0.0, 0.1, 0.25, 0.5, 0.75)
"""Of the quantiles of the log-probabilities."""

_PROBABILITIES: Final = (
    "logprob_minimum",
    "logprob_q10",
    "logprob_q25",
    "logprob_q50",
    "logprob_q75",
    "logprob_maximum",
    "logprob_mean",
    "logprob_sum",
    "probability",
    "probability_minimum",
    "probability_first",
    "logprob_last",
    "length",
    "input_length",
    "repetition",
    "truncated",
    "finished",
)
_COPIES: Final = ("copied", "novel", "novel_logprob", "copied_pairs", "novel_pairs", "novel_pairs_logprob", "familiarity")
_SPREAD: Final = (
    "gap_minimum",
    "gap_mean",
    "gap_first",
    "closeness",
    "entropy_mean",
    "entropy_sum",
    "entropy_maximum",
    "entropy_first",
)

PLAIN_FEATURES: Final = (*_PROBABILITIES, *_COPIES, "gate")
"""Names of the features that cost nothing at the tokens: quantiles, mean and sum of the log-probabilities, the probabilities of the
answer, of its least probable and of its first token, lengths, repetition, whether the input was cut and the answer ended, what of
it stands in the input, and what the gate made of the pooled encoder state."""
FEATURES: Final = (*PLAIN_FEATURES, *_SPREAD)
"""Names of all features: the plain ones, then top-2 gaps and entropies."""


def features(evidence: Evidence) -> Mapping[str, float]:
    """The features of an answer by name; its keys are ``FEATURES``, or ``PLAIN_FEATURES`` where there is no spread.

    Args:
        evidence: With at least one token.
    """
    values = feature_values(evidence)
    return dict(zip(FEATURES[: len(values)], values, strict=True))


def feature_values(evidence: Evidence) -> Sequence[float]:
    """The same without names: making a mapping for every answer would take longer than the arithmetic."""
    logprobs = [max(logprob, _LEAST) for logprob in evidence.logprobs]
    plain = (*_probabilities(evidence, logprobs), *_copies(evidence, logprobs), evidence.gate or 0.0)
    return (*plain, *_spread(evidence)) if evidence.entropies else plain


def _probabilities(evidence: Evidence, logprobs: Sequence[float]) -> Sequence[float]:
    """How likely the tokens are, and the form of the answer."""
    count, total = len(logprobs), math.fsum(logprobs)
    ordered = sorted(logprobs)
    return (
        *quantiles(ordered, _LEVELS),
        ordered[-1],
        total / count,
        max(total, _LEAST),
        math.exp(min(0.0, total)),
        math.exp(min(0.0, ordered[0])),
        math.exp(min(0.0, logprobs[0])),
        logprobs[-1],
        float(count),
        math.log1p(len(evidence.source)),
        1 - len(set(evidence.tokens)) / count,
        float(evidence.truncated),
        float(evidence.finished),
    )


def _copies(evidence: Evidence, logprobs: Sequence[float]) -> Sequence[float]:
    """What of the answer stands in the input already: a name that nobody wrote is more often wrong than one that is copied."""
    tokens, source = evidence.tokens, evidence.source
    pairs, times = list(pairwise(tokens)), dict.fromkeys(tokens, 0)
    # One pass over the input, which is much longer than what of it is looked for.
    places = [place for place, token in enumerate(source) if token in times]
    for place in places:
        times[source[place]] += 1
    pairs_there = {(source[place], source[place + 1]) for place in places if place + 1 < len(source)}
    there = [times[token] for token in tokens]
    new = [logprob for count, logprob in zip(there, logprobs, strict=True) if not count]
    newly_joined = [logprob for pair, logprob in zip(pairs, logprobs[1:], strict=True) if pair not in pairs_there]
    return (
        1 - len(new) / len(logprobs),
        float(len(new)),
        math.fsum(new),
        1 - len(newly_joined) / max(1, len(pairs)),
        float(len(newly_joined)),
        math.fsum(newly_joined),
        math.fsum(map(math.log1p, there)) / len(logprobs),
    )


def _spread(evidence: Evidence) -> Sequence[float]:
    """What the whole distributions say, at some microseconds a token."""
    gaps = [min(gap, -_LEAST) for gap in evidence.gaps]
    entropy = math.fsum(evidence.entropies)
    return (
        min(gaps),
        math.fsum(gaps) / len(gaps),
        gaps[0],
        math.exp(-max(0.0, min(gaps))),
        entropy / len(gaps),
        entropy,
        max(evidence.entropies),
        evidence.entropies[0],
    )

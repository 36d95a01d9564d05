"""What a model answers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pocketseq.confidence.evidence import Evidence
from pocketseq.decoding.emission import Alternatives
from pocketseq.decoding.settings import FinishReason


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of an answer went, in milliseconds; rows of one batch share theirs."""

    tokenize_ms: float
    """From text to token ids."""
    encode_ms: float
    """The encoder."""
    decode_ms: float
    """All decoder steps and the choice of tokens."""
    total_ms: float
    """From the call to the answer; opening the model, at its first answer, is not in it."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One of the answers that a beam search found."""

    text: str
    """As ``Result.text``."""
    score: float
    """Sum of the log-probabilities under the constraints, over length to the power of the length penalty."""
    confidence: float | None
    """As ``Result.confidence``."""
    tokens: tuple[int, ...]
    """As ``Result.tokens``."""
    token_logprobs: tuple[float, ...]
    """As ``Result.token_logprobs``."""
    finish_reason: FinishReason
    """As ``Result.finish_reason``."""
    token_alternatives: tuple[Alternatives, ...] = ()
    """As ``Result.token_alternatives``."""


@dataclass(frozen=True, slots=True)
class Result:
    """One answer."""

    text: str
    """The whole answer, such as the whole line where the model only wrote an edit of it."""
    confidence: float | None
    """0 to 1 by the calibrated scorer, or the default one without calibration; None where a log-probability is no number, or
    where there is no token."""
    tokens: tuple[int, ...]
    """Emitted token ids, the end token included where it came, a forced prefix not."""
    token_logprobs: tuple[float, ...]
    """Log-probability of each token in the raw distribution, before constraints, temperature, top-k, top-p and min-p."""
    finish_reason: FinishReason
    """``stop`` at the end token, ``length`` at the limit, ``stop_string``, ``deadline`` or ``cancelled``."""
    truncated: tuple[str, ...]
    """Names of the input's fields that were cut to their budget."""
    timing: Timing
    hypotheses: tuple[Hypothesis, ...] = ()
    """The best answers of a beam search, this one first; empty without beams."""
    token_alternatives: tuple[Alternatives, ...] = ()
    """For each token the likeliest ones of its place, as many as ``alternatives`` asked for, with raw log-probabilities."""
    pooled: tuple[float, ...] | None = None
    """Mean of the encoder's last states over the input's tokens, d_model numbers; None unless ``pooled`` asked for it."""
    evidence: Evidence | None = None
    """What the confidence was made of."""


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a model finds an answer that it was given."""

    logprob: float
    """Sum of ``token_logprobs``: the log-probability of the whole answer."""
    confidence: float | None
    """What ``Result.confidence`` would be had the model given this answer."""
    tokens: tuple[int, ...]
    """The answer's token ids, end token included."""
    token_logprobs: tuple[float, ...]
    """Log-probability of each token in the raw distribution."""
    token_alternatives: tuple[Alternatives, ...] = ()
    """For each token the likeliest ones of its place, as many as ``alternatives`` asked for."""


_KEPT: Final = "_pocketseq_answers"


def answers_before(error: BaseException) -> Mapping[int, Result]:
    """The answers that a call had when an error ended it, such as one that a callback raised: what was computed is not lost.

    Args:
        error: What ``generate_batch`` raised, as it came.

    Returns:
        Results by the number of their input; empty where no answer was finished.
    """
    kept: Mapping[int, Result] = getattr(error, _KEPT, {})
    return kept


def keep_answers(error: BaseException, answers: Mapping[int, Result]) -> None:
    """Let an error that passes through carry the answers that were finished; see ``answers_before``."""
    with suppress(AttributeError):  # of the few that take no attribute
        setattr(error, _KEPT, dict(answers))

"""What a model answers."""

from __future__ import annotations

from dataclasses import dataclass

from pocketseq.decoding import FinishReason


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
class Result:
    """One answer."""

    text: str
    """The whole answer, such as the whole line where the model only wrote an edit of it."""
    confidence: float | None
    """0 to 1 by the calibrated scorer, or the default one without calibration; None where a log-probability is no number."""
    tokens: tuple[int, ...]
    """Emitted token ids, the end token included where it came."""
    token_logprobs: tuple[float, ...]
    """Log-probability of each token in the raw distribution, before temperature, top-k and top-p."""
    finish_reason: FinishReason
    """``stop`` at the end token, ``length`` at the limit."""
    truncated: tuple[str, ...]
    """Names of the input's fields that were cut to their budget."""
    timing: Timing

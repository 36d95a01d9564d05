"""What others have published for each task, and what a student here has to reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """One row of a published table."""

    system: str
    scores: Mapping[str, float]
    """Percent, by the names of the protocol's measures."""
    note: str = ""
    """What a reader has to know to compare."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What an int8 student that decodes greedily is to reach."""

    system: str
    """Published system that it is to reach, or where the bar comes from."""
    scores: Mapping[str, float]
    """Percent, by measure: at least so much, or at most where lower is better."""
    size_mb: float
    """Largest size of its files, in megabytes."""


_PRETRAINED: Final = "pre-trained on other data"
_RECALLED: Final = "from memory, not checked against the paper"

RESULTS: Final[dict[str, tuple[PublishedResult, ...]]] = {
    "g2p-en-us": (
        PublishedResult("SIGMORPHON 2021 ensembled baseline", {"wer": 41.94}),
        PublishedResult("SIGMORPHON 2021 best system", {"wer": 37.4}, _RECALLED),
    ),
    "java-cs": (
        PublishedResult("naive copy", {"bleu": 18.54, "exact_match": 0.0}),
        PublishedResult("PBSMT", {"bleu": 43.53, "exact_match": 12.5}),
        PublishedResult("Transformer", {"bleu": 55.84, "exact_match": 33.0}),
        PublishedResult("CodeBERT", {"bleu": 79.92, "exact_match": 59.0}, _PRETRAINED),
    ),
    "multi30k-en-de": (PublishedResult("text-only transformer_tiny, 2.6M parameters", {"bleu": 41.02}, "beam 5"),),
    "django": (
        PublishedResult("SMT", {"exact_match": 31.5}),
        PublishedResult("NMT", {"exact_match": 45.1}, _RECALLED),
        PublishedResult("LPN", {"exact_match": 62.3}),
        PublishedResult("SNM", {"exact_match": 71.6}),
        PublishedResult("TranX", {"exact_match": 73.9}),
        PublishedResult("Coarse2Fine", {"exact_match": 74.1}, _RECALLED),
        PublishedResult("MarianCG", {"exact_match": 81.8}, _PRETRAINED),
    ),
}
"""Published rows by task, from scratch on the task's data unless the note says otherwise."""

GOALS: Final[dict[str, Goal]] = {
    "g2p-en-us": Goal("SIGMORPHON 2021 ensembled baseline", {"wer": 41.94}, size_mb=5),
    "java-cs": Goal("Transformer", {"bleu": 55.84, "exact_match": 33.0}, size_mb=12),
    "multi30k-en-de": Goal("text-only transformer_tiny", {"bleu": 41.02}, size_mb=8),
    "django": Goal("a bar between LPN and SNM", {"exact_match": 65.0}, size_mb=12),
}
"""By task."""

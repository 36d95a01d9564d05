"""Decoding: which token comes next, over any runtime. Pure: no clock, no files, no state between calls."""

from typing import TYPE_CHECKING

from pocketseq.decoding.cancellation import Cancellation
from pocketseq.decoding.drawing import drawing
from pocketseq.decoding.emission import Alternatives, Decoded, Emission, TokenLogprob, collect
from pocketseq.decoding.greedy import STRIDE, greedy, greedy_answer
from pocketseq.decoding.settings import Beams, Constraints, FinishReason, Sampling
from pocketseq.decoding.steps import Choose, Ended, Halt, best, emissions
from pocketseq.decoding.stops import StopStrings, certain, first_stop
from pocketseq.lazily import lazily

if TYPE_CHECKING:
    from pocketseq.decoding.beams import Search, beam_search, outcome
    from pocketseq.decoding.drafts import CopyDraft, drafted, drafted_answer
    from pocketseq.decoding.rules import Rules, constrained
    from pocketseq.decoding.scoring import score_targets
    from pocketseq.decoding.tracing import beam_answers

# What a plain greedy answer does without.
_HOMES = {
    "beams": ("Search", "beam_search", "outcome"),
    "drafts": ("CopyDraft", "drafted", "drafted_answer"),
    "rules": ("Rules", "constrained"),
    "scoring": ("score_targets",),
    "tracing": ("beam_answers",),
}
__getattr__ = lazily(__name__, _HOMES)

__all__ = [
    "STRIDE",
    "Alternatives",
    "Beams",
    "Cancellation",
    "Choose",
    "Constraints",
    "CopyDraft",
    "Decoded",
    "Emission",
    "Ended",
    "FinishReason",
    "Halt",
    "Rules",
    "Sampling",
    "Search",
    "StopStrings",
    "TokenLogprob",
    "beam_answers",
    "beam_search",
    "best",
    "certain",
    "collect",
    "constrained",
    "drafted",
    "drafted_answer",
    "drawing",
    "emissions",
    "first_stop",
    "greedy",
    "greedy_answer",
    "outcome",
    "score_targets",
]

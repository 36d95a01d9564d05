"""Choosing among a teacher's answers: by the reference, by the teacher itself, or by a model that goes the other way."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from pocketseq.errors import TeacherError
from pocketseq.metrics import chrf
from pocketseq_distill.labelling.teacher import Candidate

Choice: TypeAlias = Literal["likeliest", "nearest", "nearest_bleu", "reverse"]
"""``likeliest`` prefers the highest mean log-probability of the tokens, which needs no reference; ``nearest`` the reference itself,
then the highest chrF to it, ``nearest_bleu`` the highest sentence BLEU (Kim and Rush 2016, "Sequence-Level Knowledge Distillation",
section 3.3), and both, of answers that are equally near, such as those that share nothing with it, what ``reverse`` prefers;
``reverse`` the highest sum of the mean log-probability and that of the source given the answer, by a reverse model (the noisy
channel; Yee, Dauphin and Auli 2019, "Simple and Effective Noisy Channel Modeling", equation 2)."""

_ORDER: Final = 4
_WORD: Final = re.compile(r"\w+|[^\w\s]")


def rank(
    candidates: Sequence[Candidate], reference: str, choice: Choice, *, reverse: Sequence[float] = (), weight: float = 1.0
) -> list[int]:
    """Order several answers to one question, the best first; what is equal in every respect keeps its order.

    Args:
        candidates: At least one.
        reference: The row's own answer; may be empty where nothing asks for it.
        choice: By what.
        reverse: Cross-entropy of the source given each candidate, nats a token.
        weight: Of the reverse cross-entropy beside the teacher's own score, 0 or more.

    Returns:
        Places in ``candidates``.

    Raises:
        TeacherError: the teacher tells no log-probabilities to choose by.
    """
    if len(candidates) == 1:
        return [0]
    if all(candidate.mean_logprob is None for candidate in candidates):
        if choice == "likeliest":
            raise TeacherError(
                f"expected log-probabilities to choose the likeliest of {len(candidates)} answers by, found none; "
                'choose = "nearest" where there are references, "reverse" with a reverse model, or ask the endpoint for logprobs'
            )
        own = [0.0] * len(candidates)  # the reverse model alone decides
    else:
        own = [-math.inf if candidate.mean_logprob is None else candidate.mean_logprob for candidate in candidates]
    both = own
    if reverse and weight:  # an answer of nothing tells nothing of the source: 0 times infinity would be no number
        both = [score - weight * apart for score, apart in zip(own, reverse, strict=True)]
    match choice:
        case "likeliest":
            scores = [(score, 0.0) for score in own]
        case "reverse":
            scores = [(score, 0.0) for score in both]
        case "nearest" | "nearest_bleu":
            scores = [(_nearness(one.text, reference, choice), score) for one, score in zip(candidates, both, strict=True)]
    return sorted(range(len(candidates)), key=lambda place: scores[place], reverse=True)


def _nearness(answer: str, reference: str, choice: Choice) -> float:
    """How near an answer comes to the reference. Nothing is nearer than itself, though chrF and BLEU are blind to white space."""
    if answer == reference:
        return math.inf
    return chrf([answer], [reference]) if choice == "nearest" else sentence_bleu(answer, reference)


def sentence_bleu(answer: str, reference: str) -> float:
    """BLEU of one sentence over words and punctuation marks, 0 to 1.

    One is added to the counts of the n-grams of 2 and more words, lest one missing length makes it zero (Lin and Och 2004,
    "Automatic Evaluation of Machine Translation Quality Using Longest Common Subsequence and Skip-Bigram Statistics", section 4).
    """
    ours, theirs = _WORD.findall(answer), _WORD.findall(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    logs = []
    for order in range(1, _ORDER + 1):
        given, wanted = _ngrams(ours, order), _ngrams(theirs, order)
        shared, total = (given & wanted).total(), given.total()
        if order == 1 and not shared:
            return 0.0
        added = int(order > 1)
        logs.append(math.log((shared + added) / (total + added)))
    brevity = min(0.0, 1 - len(theirs) / len(ours))
    return math.exp(brevity + sum(logs) / _ORDER)


def _ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))

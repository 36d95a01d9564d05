"""Choosing among candidates, by hand-computed scores."""

from __future__ import annotations

import math

import pytest
import sacrebleu

from pocketseq.errors import TeacherError
from pocketseq_distill.labelling.choice import Choice, rank, sentence_bleu
from pocketseq_distill.labelling.teacher import Candidate


def candidate(text: str, *logprobs: float) -> Candidate:
    mean = sum(logprobs) / len(logprobs) if logprobs else None
    return Candidate(text=text, logprob=sum(logprobs), mean_logprob=mean)


def test_the_likeliest_candidate_is_so_by_token_and_not_by_length() -> None:
    """Two tokens of −0.5 beat one of −0.8; one without a score comes last."""
    assert rank([candidate("nothing"), candidate("short", -0.8), candidate("longer", -0.5, -0.5)], "", "likeliest") == [2, 1, 0]


def test_the_nearest_candidate_is_the_one_like_the_reference() -> None:
    """However unlikely the teacher thought it, by characters or by words."""
    candidates = [candidate("return value", -0.1), candidate("return values", -3.0)]
    assert rank(candidates, "return values", "nearest") == [1, 0]
    assert rank(candidates, "return values", "nearest_bleu") == [1, 0]


def test_characters_and_words_may_disagree() -> None:
    """Three words of four right beat, by BLEU, one word in which each letter but one is right; chrF sees it the other way."""
    candidates = [candidate("the cats sat there"), candidate("then cat sat hither")]
    assert rank(candidates, "the cat sat there", "nearest_bleu")[0] == 0
    words = [candidate("xylophone"), candidate("a b c")]
    assert rank(words, "xylophones", "nearest") == [0, 1]
    assert sentence_bleu("xylophone", "xylophones") == 0


def test_the_reverse_model_weighs_in() -> None:
    """Mean log-probability less the weighted cross-entropy: −1 − 1 against −0.5 − 3, and −0.5 − 0.1·3 the other way."""
    candidates = [candidate("one", -0.5), candidate("two", -1.0)]
    assert rank(candidates, "", "reverse", reverse=[3.0, 1.0]) == [1, 0]
    assert rank(candidates, "", "reverse", reverse=[3.0, 1.0], weight=0.1) == [0, 1]
    assert rank([candidate("a"), candidate("b")], "", "reverse", reverse=[math.inf, 2.0]) == [1, 0]
    candidates = [candidate("far", -5.0), candidate("", -9.0), candidate("near", -1.0)]
    assert rank(candidates, "", "reverse", reverse=[1.0, math.inf, 1.0], weight=0.0) == [2, 0, 1]


def test_equals_keep_their_order() -> None:
    """The first of a search is its best."""
    assert rank([candidate("same", -1.0), candidate("same", -1.0)], "same", "nearest") == [0, 1]
    assert rank([candidate("one"), candidate("two")], "", "nearest") == [0, 1]


@pytest.mark.parametrize("choice", ["nearest", "nearest_bleu"])
def test_of_equally_near_answers_the_likelier_comes_first(choice: Choice) -> None:
    """As where the reference is empty and shares nothing with any of them; a reverse model weighs in there too."""
    candidates = [candidate("wild guess", -9.0), candidate("return value", -0.1)]
    assert rank(candidates, "", choice) == [1, 0]
    assert rank(candidates, "", choice, reverse=[1.0, 20.0]) == [0, 1]


def test_an_empty_reference_is_an_answer_like_any_other() -> None:
    """Where it is what should be said, nothing is nearer to it than nothing, however likely; nor to a text than that text."""
    assert rank([candidate("something", -0.1), candidate("", -5.0)], "", "nearest") == [1, 0]
    assert rank([candidate("return value", -0.1), candidate("return  value", -5.0)], "return  value", "nearest") == [1, 0]


def test_choosing_by_what_is_not_known_is_refused() -> None:
    """A teacher without log-probabilities has no likeliest answer, unless it gave only one."""
    assert rank([candidate("only")], "", "likeliest") == [0]
    with pytest.raises(TeacherError, match="expected log-probabilities to choose the likeliest of 2 answers by, found none"):
        rank([candidate("a"), candidate("b")], "", "likeliest")


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("the cat sat on the mat .", "the cat sat on a mat ."),
        ("a cat", "the cat sat on the mat"),
        ("on the mat sat the cat today", "the cat sat on the mat"),
    ],
)
def test_sentence_bleu_is_that_of_sacrebleu(answer: str, reference: str) -> None:
    """With its smoothing by one, on words that are apart already."""
    expected = sacrebleu.sentence_bleu(
        answer, [reference], smooth_method="add-k", smooth_value=1, tokenize="none", use_effective_order=True
    )
    assert 100 * sentence_bleu(answer, reference) == pytest.approx(expected.score, abs=0.01)


def test_nothing_is_like_nothing() -> None:
    """Empty texts have no n-grams, and are no error."""
    assert sentence_bleu("", "") == 1
    assert sentence_bleu("", "x") == sentence_bleu("x", "") == 0
    assert sentence_bleu("exactly this", "exactly this") == 1

"""BLEU against hand-computed values, sacrebleu, and the value that CodeXGLUE prints for its own example."""

from __future__ import annotations

from math import exp, log
from random import Random

import numpy as np
import pytest
import sacrebleu

from pocketseq_distill.published.bleu import bleu, bleu_counts


def test_counts_by_hand() -> None:
    """An n-gram counts as often as the reference has it, and no more."""
    counts = bleu_counts(["the the the cat sat"], ["the cat sat on the mat"])
    assert counts.tolist() == [[4, 2, 1, 0, 5, 4, 3, 2, 5, 6]]


def test_a_score_by_hand() -> None:
    """No four tokens are shared: 0 unless one is added, then precisions of 5/6, 3/5, 2/4 and 1/3, and five tokens for six."""
    sums = bleu_counts(["the the the cat sat"], ["the cat sat on the mat"])[0]
    assert bleu(sums) == 0
    smoothed = exp((log(5 / 6) + log(3 / 5) + log(2 / 4) + log(1 / 3)) / 4) * exp(1 - 6 / 5)
    assert bleu(sums, add_one=True) == pytest.approx(100 * smoothed)


def test_the_example_of_codexglue() -> None:
    """Its evaluator prints BLEU 61.08 for its ten example predictions, of which these are the counts."""
    sums = np.array([109, 84, 69, 57, 143, 133, 123, 113, 143, 138], dtype=float)
    assert round(float(bleu(sums, add_one=True)), 2) == 61.08


def test_agrees_with_sacrebleu_on_tokenised_text() -> None:
    """Without smoothing the score of a corpus is sacrebleu's on the same tokens."""
    random = Random(0)
    targets = [" ".join(random.choices("abcde", k=random.randint(3, 12))) for _ in range(40)]
    answers = [" ".join(token for token in target.split() if random.random() < 0.8) for target in targets]
    ours = float(bleu(bleu_counts(answers, targets).sum(axis=0)))
    theirs = sacrebleu.corpus_bleu(answers, [targets], tokenize="none", smooth_method="none", force=True).score
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("add_one", [False, True])
def test_the_ends_of_the_scale(add_one: bool) -> None:
    """A copy of the reference scores 100, and no answer at all scores 0."""
    assert bleu(bleu_counts(["a b c d e"], ["a b c d e"])[0], add_one=add_one) == pytest.approx(100)
    assert bleu(bleu_counts([""], ["a b c d e"])[0], add_one=add_one) == 0


def test_many_sums_are_scored_at_once() -> None:
    """Leading dimensions are samples."""
    counts = bleu_counts(["a b c d e", "a b c d f"], ["a b c d e", "a b c d e"])
    assert bleu(counts).tolist() == [float(bleu(row)) for row in counts]

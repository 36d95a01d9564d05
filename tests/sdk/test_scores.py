"""Scores: of given answers, of alternatives, and the encoder's state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pocketseq import Constraints, PocketModel
from pocketseq.errors import InputError


def only(ids: Sequence[int]) -> Constraints:
    return Constraints(allowed=lambda tokens: [ids[len(tokens)]])


TEXTS = ["for i in rnage(10)", "x", "def fit(self, x):"]


def test_a_given_answer_scores_as_when_the_model_gives_it(model: PocketModel) -> None:
    """Token by token, and as a whole."""
    for text in TEXTS:
        # What the model says when it must end after a few tokens, spelled as its tokenizer spells it.
        target = model.generate(text, max_new_tokens=4).text
        score = model.score(text, target, alternatives=3)
        assert len(score.tokens) == len(score.token_logprobs) == len(score.token_alternatives)
        assert score.tokens[-1] == model.manifest.geometry.end_id
        assert score.logprob == pytest.approx(sum(score.token_logprobs))
        allowed = list(score.tokens)
        forced = model.generate(text, constraints=only(allowed), max_new_tokens=len(allowed))
        assert forced.tokens == score.tokens
        assert forced.token_logprobs == pytest.approx(score.token_logprobs, abs=1e-4)
        assert forced.confidence == pytest.approx(score.confidence, abs=1e-4)


def test_many_answers_are_scored_in_order(model: PocketModel) -> None:
    """As each alone, whatever their lengths."""
    targets = ["a long answer that goes on", "", "short"]
    together = model.score_batch(TEXTS, targets)
    for text, target, score in zip(TEXTS, targets, together, strict=True):
        alone = model.score(text, target)
        assert score.tokens == alone.tokens
        assert score.token_logprobs == pytest.approx(alone.token_logprobs, abs=1e-4)


def test_an_edit_is_scored_as_the_line_that_it_makes(edits_bundle: Path) -> None:
    """And what is no edit of what the model saw is refused."""
    with PocketModel.load(edits_bundle) as editing:
        score = editing.score("for i in rnage(10):", "for i in range(10):")
        assert len(score.tokens) >= 4
        assert editing.score("x", "x").tokens == (editing.manifest.geometry.end_id,)
        long = "alpha = " + " + ".join(f"value_{number}" for number in range(60))
        with pytest.raises(InputError, match="target: expected an edit of what the model sees of the input"):
            editing.score(long, "x")


def test_a_target_that_cannot_be_scored_is_refused(model: PocketModel) -> None:
    """Too long for the model's positions, or not one for each input."""
    with pytest.raises(InputError, match=r"target: expected at most 31 tokens, found \d+; shorten it"):
        model.score("x", "y " * 50)
    with pytest.raises(InputError, match="expected a target, a string, for each of 2 inputs, found 1 targets"):
        model.score_batch(["x", "y"], ["z"])
    with pytest.raises(InputError, match="expected a sequence of inputs, found one str"):
        model.score_batch("x", ["z"])


def test_alternatives_hold_the_token_that_was_taken(model: PocketModel) -> None:
    """First of all where the likeliest is taken; as many as were asked for, the likeliest first."""
    result = model.generate(TEXTS[0], alternatives=4)
    assert len(result.token_alternatives) == len(result.tokens)
    for token, logprob, alternatives in zip(result.tokens, result.token_logprobs, result.token_alternatives, strict=True):
        assert len(alternatives) == 4
        assert (alternatives[0].id, alternatives[0].logprob) == (token, logprob)
        logprobs = [one.logprob for one in alternatives]
        assert logprobs == sorted(logprobs, reverse=True)
    assert model.generate(TEXTS[0]).token_alternatives == ()


def test_the_encoders_state_is_told_on_request(model: PocketModel) -> None:
    """A number for each dimension, the same alone and beside others, and in a stream's result."""
    alone = model.generate(TEXTS[1], pooled=True).pooled
    assert alone is not None
    assert len(alone) == model.manifest.geometry.d_model
    assert model.generate_batch(TEXTS, pooled=True)[1].pooled == pytest.approx(alone, abs=1e-5)
    assert model.generate(TEXTS[1]).pooled is None

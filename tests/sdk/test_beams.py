"""Beams with all that goes beside them: grammars, alternatives, streams, stop strings, deadlines."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.test_constraints import GRAMMARS, PERSON, TEXT, matches

from pocketseq import Beams, Cancellation, Constraints, PocketModel
from pocketseq.errors import InputError
from pocketseq.results import Result
from pocketseq.testing import ScriptedRuntime, scripted_model

TEXTS = [TEXT, "x", "def fit(self, x):", "naïve café €5 😀"]


@pytest.mark.parametrize("constraints", GRAMMARS.values(), ids=GRAMMARS)
def test_every_hypothesis_has_the_form(letters: PocketModel, constraints: Constraints) -> None:
    """At every limit of tokens, whole where there is room for any answer, and refused by name where there is none."""
    answered, refusals = 0, list[str]()
    for limit in (2, 12, 20, 48, 64):
        try:
            result = letters.generate(TEXT, constraints=constraints, beams=Beams(3, 3), max_new_tokens=limit)
        except InputError as error:
            refusals.append(str(error))
            continue
        answered += 1
        for hypothesis in result.hypotheses:
            assert matches(hypothesis.text, constraints)
            assert hypothesis.finish_reason == "stop"
            assert len(hypothesis.tokens) <= limit
    assert answered >= 1
    assert all("max_new_tokens: expected room for an answer that matches" in refusal for refusal in refusals)


@pytest.mark.parametrize("name", [name for name, one in GRAMMARS.items() if one.json_schema is not PERSON])
def test_random_weights_search_in_the_form(model: PocketModel, name: str) -> None:
    """A vocabulary of subwords, rows of a batch beside one another; never worse than the greedy answer."""
    options: dict[str, Any] = {"constraints": GRAMMARS[name], "max_new_tokens": 30}
    greedy = model.generate_batch(TEXTS, **options)
    together = model.generate_batch(TEXTS, beams=Beams(4, 2, length_penalty=0.0), **options)
    for source, one, result in zip(TEXTS, greedy, together, strict=True):
        assert all(matches(hypothesis.text, GRAMMARS[name]) for hypothesis in result.hypotheses)
        assert len({hypothesis.tokens for hypothesis in result.hypotheses}) == len(result.hypotheses)
        alone = model.generate(source, beams=Beams(4, 2, length_penalty=0.0), **options)
        assert alone.tokens == result.tokens
        # Among few choices nothing is pruned.
        if name == "choice":
            assert result.hypotheses[0].score >= sum(one.token_logprobs) - 1e-4


def test_as_many_beams_as_choices_rank_them_all(model: PocketModel) -> None:
    """As their scores do: zero-shot classification with a probability for each label."""
    labels = ("alpha", "beta", "gamma", "xy")
    result = model.generate(TEXT, beams=Beams(8, 8, length_penalty=0.0), constraints=Constraints(choices=labels))
    best: dict[str, float] = {}
    for hypothesis in result.hypotheses:  # a label may be spelled in more ways than one
        best.setdefault(hypothesis.text, hypothesis.score)
        assert hypothesis.score == pytest.approx(sum(hypothesis.token_logprobs), abs=1e-3)
    assert set(best) <= set(labels)
    ranked = sorted(best, key=lambda label: -best[label])
    assert result.text == result.hypotheses[0].text == ranked[0]
    for label in best:
        assert best[label] >= model.score(TEXT, label).logprob - 1e-3


def test_a_choice_is_the_same_as_a_trie_of_its_tokens(letters: PocketModel) -> None:
    """One token a byte: the grammar allows what a callable over the prefixes allows, and the search finds the same."""
    labels = ("for you", "four", "fort", "no")
    engine = letters._opened()
    end = letters.manifest.geometry.end_id
    spelled = [[*engine.tokenizer.text_ids(label), end] for label in labels]

    def allowed(tokens: Any) -> list[int]:
        return [ids[len(tokens)] for ids in spelled if ids[: len(tokens)] == list(tokens)]

    for beams in (Beams(1), Beams(2, 2), Beams(4, 4), Beams(3, 3, length_penalty=0.0, early_stopping=True)):
        by_grammar = letters.generate("for i", beams=beams, constraints=Constraints(choices=labels))
        by_trie = letters.generate("for i", beams=beams, constraints=Constraints(allowed=allowed))
        assert [one.tokens for one in by_grammar.hypotheses] == [one.tokens for one in by_trie.hypotheses]
        assert [one.score for one in by_grammar.hypotheses] == [one.score for one in by_trie.hypotheses]


def test_a_form_goes_with_a_repetition_penalty_and_alternatives(model: PocketModel) -> None:
    """What may stand beside a grammar may stand beside both."""
    constraints = Constraints(regex="[a-z]{3,9}", repetition_penalty=1.3)
    result = model.generate(TEXT, beams=Beams(3, 3), constraints=constraints, alternatives=2)
    assert all(matches(one.text, Constraints(regex="[a-z]{3,9}")) for one in result.hypotheses)
    assert all(len(one.token_alternatives) == len(one.tokens) for one in result.hypotheses)


def test_alternatives_come_with_every_hypothesis(model: PocketModel) -> None:
    """Those of the raw distribution at each place, as scoring the answer's tokens tells them."""
    result = model.generate(TEXT, beams=Beams(3, 3), alternatives=4, max_new_tokens=8)
    assert result.token_alternatives == result.hypotheses[0].token_alternatives
    for hypothesis in result.hypotheses:
        places = iter(hypothesis.tokens)
        forced = model.generate(
            TEXT, constraints=Constraints(allowed=lambda _, places=places: [next(places)]), alternatives=4, max_new_tokens=8
        )
        assert forced.tokens == hypothesis.tokens
        assert len(hypothesis.token_alternatives) == len(hypothesis.tokens)
        for one, other in zip(hypothesis.token_alternatives, forced.token_alternatives, strict=True):
            assert [token.id for token in one] == [token.id for token in other]
            assert [token.logprob for token in one] == pytest.approx([token.logprob for token in other], abs=1e-4)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"beams": Beams(1)},
    {"beams": Beams(2, 2, early_stopping=True)},
    {"beams": Beams(5, length_penalty=-1.0)},
    {"beams": Beams(4, early_stopping="never", length_penalty=2.0)},
    {"constraints": Constraints(stop=("e", "✓"))},
    {"constraints": Constraints(regex="[a-z]{3,9}")},
    {"constraints": Constraints(min_new_tokens=4, no_repeat_ngram=1)},
    {"constraints": Constraints(prefix="on")},
    {"max_new_tokens": 3},
]


def drain(pieces: Generator[str, None, Result]) -> tuple[list[str], Result]:
    found = []
    while True:
        try:
            found.append(next(pieces))
        except StopIteration as end:
            return found, end.value


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_search_streams_what_it_answers(model: PocketModel, letters: PocketModel, options: dict[str, Any]) -> None:
    """Pieces that are never taken back and together are the best answer; the result is that of ``generate``."""
    options = {"beams": Beams(4), "max_new_tokens": 16, **options}
    for asked in (model, letters):
        for text in TEXTS:
            whole = asked.generate(text, **options)
            pieces, result = drain(asked.stream(text, **options))
            assert "".join(pieces) == whole.text == result.text
            assert (result.tokens, result.hypotheses) == (whole.tokens, whole.hypotheses)


class Unsure:
    """A model that repeats its input, less and less sure of it, and counts its steps."""

    def __init__(self, text: str) -> None:
        made = scripted_model({})
        tokenizer, geometry = made._opened().tokenizer, made.manifest.geometry
        self.steps = 0

        class Counting(ScriptedRuntime):
            def step(inner, *given: Any) -> Any:
                self.steps += 1
                return super().step(*given)

        script = [(token, 0.95 - 0.02 * place) for place, token in enumerate(tokenizer.text_ids(text))]
        runtime = Counting(lambda _: script, vocab_size=geometry.vocab_size, end_id=geometry.end_id)
        self.model = PocketModel(made.manifest, made.variant, open_tokenizer=lambda: tokenizer, open_runtime=lambda: runtime)


def test_what_all_beams_agree_on_comes_before_the_end() -> None:
    """The stream is a few tokens behind the search."""
    text = "one piece after the other"
    unsure = Unsure(text)
    behind, given = [], ""
    for piece in unsure.model.stream(text, beams=Beams(3)):
        given += piece
        behind.append(unsure.steps - len(given))
    assert given == text
    assert len(behind) == len(text)
    assert max(behind[:-4]) <= 4


def test_an_edit_streams_from_beams(edits_bundle: Path) -> None:
    """Where the answer is an edit of a line too."""
    with PocketModel.load(edits_bundle) as editing:
        for text in TEXTS:
            assert "".join(editing.stream(text, beams=Beams(3))) == editing.generate(text, beams=Beams(3)).text


def test_a_cancelled_search_streams_its_best_beginning() -> None:
    """What was given stays its beginning."""
    cancellation = Cancellation()
    text = "one piece after the other"
    pieces = Unsure(text).model.stream(text, beams=Beams(3), cancellation=cancellation)
    first = next(pieces)
    cancellation.cancel()
    rest, result = drain(pieces)
    assert result.finish_reason == "cancelled"
    assert first + "".join(rest) == result.text
    assert text.startswith(result.text)


def test_best_answers_come_with_their_scores(model: PocketModel) -> None:
    """The first is the result; the log-probabilities of each add up to its score."""
    result = model.generate(TEXT, beams=Beams(4, answers=3, length_penalty=0.0), max_new_tokens=8)
    assert len(result.hypotheses) == 3
    assert (result.text, result.tokens) == (result.hypotheses[0].text, result.hypotheses[0].tokens)
    scores = [hypothesis.score for hypothesis in result.hypotheses]
    assert scores == sorted(scores, reverse=True)
    for hypothesis in result.hypotheses:
        assert sum(hypothesis.token_logprobs) == pytest.approx(hypothesis.score, abs=1e-4)
    assert model.generate(TEXT).hypotheses == ()


def test_one_beam_is_greedy(model: PocketModel) -> None:
    """In a batch too."""
    sources = [TEXT, "x", "def fit(self, x):"]
    greedy = model.generate_batch(sources)
    assert [one.tokens for one in model.generate_batch(sources, beams=Beams(1))] == [one.tokens for one in greedy]


def test_a_cancelled_search_keeps_what_it_has(model: PocketModel) -> None:
    """Nothing before the first step, and says why."""
    cancellation = Cancellation()
    cancellation.cancel()
    result = model.generate(TEXT, beams=Beams(3, 2), cancellation=cancellation)
    assert (result.tokens, result.finish_reason, result.confidence) == ((), "cancelled", None)

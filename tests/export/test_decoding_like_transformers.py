"""The SDK's decoding gives what transformers gives on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.export.models import VOCAB, bart, t5
from tests.export.test_onnx_programs import open_programs
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pocketseq.decoding import (
    Beams,
    Constraints,
    Decoded,
    Rules,
    Sampling,
    beam_answers,
    beam_search,
    collect,
    constrained,
    drawing,
    emissions,
    greedy,
    outcome,
    score_targets,
)
from pocketseq.decoding.steps import best
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq_export.graphs import author

LIMIT = 12
ROWS = [0, 1, 2]
BUILDERS: dict[str, Callable[[], Any]] = {"t5": t5, "bart": bart}


def generated(model: Any, ids: np.ndarray, mask: np.ndarray, *, end: int, limit: int, allowed: Any = None, **settings: Any) -> Any:
    """What transformers makes of some inputs, with the logits and scores of every step."""
    config = GenerationConfig(
        max_new_tokens=limit,
        pad_token_id=model.config.pad_token_id,
        eos_token_id=end,
        decoder_start_token_id=model.config.decoder_start_token_id,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **settings,
    )
    with torch.no_grad():
        return model.generate(
            torch.tensor(ids), attention_mask=torch.tensor(mask), generation_config=config, prefix_allowed_tokens_fn=allowed
        )


@dataclass
class Pair:
    """A model of transformers, and the SDK's runtime over its weights."""

    model: Any
    runtime: OnnxRuntime
    ids: np.ndarray
    mask: np.ndarray

    @property
    def start(self) -> int:
        return int(self.model.config.decoder_start_token_id)

    @property
    def end(self) -> int:
        return int(self.model.config.eos_token_id)

    def theirs(self, **settings: Any) -> Any:
        return generated(self.model, self.ids, self.mask, end=self.end, limit=LIMIT, **settings)

    def answers(self, sequences: torch.Tensor, prompt: int = 1) -> list[tuple[int, ...]]:
        """Each sequence without its prompt, up to its end token."""
        rows = [row[prompt:] for row in sequences.tolist()]
        return [tuple(row[: row.index(self.end) + 1] if self.end in row else row) for row in rows]


@pytest.fixture(scope="module", params=[(name, seed) for name in BUILDERS for seed in (0, 1)], ids=str)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    name, seed = request.param
    model = BUILDERS[name]()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.generation_config.forced_eos_token_id = None  # no rule of the weights, and no bundle has it
    random = np.random.default_rng(seed)
    mask = (np.arange(11) < np.array([[11], [5], [8]])).astype(np.int64)
    ids = np.where(mask == 1, random.integers(4, VOCAB, (3, 11)), model.config.pad_token_id)
    directory: Path = tmp_path_factory.mktemp("programs")
    return Pair(model, open_programs(author(model), directory, "fp32"), ids, mask)


def test_greedy_answers_and_their_log_probabilities(pair: Pair) -> None:
    """The same tokens, each within a thousandth of a nat."""
    theirs = pair.theirs(num_beams=1, do_sample=False)
    memory = pair.runtime.encode(pair.ids, pair.mask)
    found = collect(greedy(pair.runtime, memory, rows=ROWS, prompt=[pair.start], end_id=pair.end, max_new_tokens=LIMIT))
    assert [found[row].ids for row in ROWS] == pair.answers(theirs.sequences)
    raw = torch.stack(theirs.logits, dim=1).log_softmax(-1)
    for row in ROWS:
        expected = [float(raw[row, place, token]) for place, token in enumerate(found[row].ids)]
        assert found[row].logprobs == pytest.approx(expected, abs=1e-3)


def test_alternatives_are_the_likeliest_of_the_raw_distribution(pair: Pair) -> None:
    """Best first, at every place, with their log-probabilities."""
    theirs = pair.theirs(num_beams=1, do_sample=False)
    memory = pair.runtime.encode(pair.ids, pair.mask)
    steps = emissions(
        pair.runtime, memory, rows=ROWS, prompt=[pair.start], end_id=pair.end, max_new_tokens=LIMIT, choose=best, alternatives=5
    )
    found = collect(steps)
    values, ids = torch.stack(theirs.logits, dim=1).log_softmax(-1).topk(5)
    for row in ROWS:
        for place, alternatives in enumerate(found[row].alternatives):
            assert [one.id for one in alternatives] == ids[row, place].tolist()
            assert [one.logprob for one in alternatives] == pytest.approx(values[row, place].tolist(), abs=1e-3)


def test_given_answers_are_scored_as_teacher_forcing_scores_them(pair: Pair) -> None:
    """In one step, targets of different length side by side."""
    targets = [[7, 8, 9, pair.end], [30, pair.end], [12] * 9 + [pair.end]]
    found = score_targets(
        pair.runtime, pair.runtime.encode(pair.ids, pair.mask), prompt=[pair.start], targets=targets, pad_id=0, alternatives=2
    )
    for row, target in enumerate(targets):
        with torch.no_grad():
            logits = pair.model(
                input_ids=torch.tensor(pair.ids[row : row + 1]),
                attention_mask=torch.tensor(pair.mask[row : row + 1]),
                decoder_input_ids=torch.tensor([[pair.start, *target[:-1]]]),
            ).logits.log_softmax(-1)[0]
        assert found[row].logprobs == pytest.approx(logits[torch.arange(len(target)), target].tolist(), abs=1e-3)
        assert [[one.id for one in place] for place in found[row].alternatives] == logits.topk(2).indices.tolist()


def beams(pair: Pair, settings: Beams, constraints: Constraints | None = None) -> dict[int, list[Decoded]]:
    rules = None if constraints is None else Rules(constraints, (pair.start,), 1, pair.end)
    steps = beam_search(
        pair.runtime,
        pair.runtime.encode(pair.ids, pair.mask),
        rows=ROWS,
        prompt=[pair.start],
        end_id=pair.end,
        max_new_tokens=LIMIT,
        beams=settings,
        rules=rules,
    )
    return outcome(steps)


def whole(pair: Pair, settings: Beams, prompt: Sequence[int]) -> dict[int, list[Decoded]]:
    """Row by row, each search in one call of the runtime."""
    found = {}
    for row in ROWS:
        ids = pair.ids[row : row + 1, : pair.mask[row].sum()]
        answers = beam_answers(
            pair.runtime,
            pair.runtime.encode(ids, np.ones_like(ids)),
            prompt=np.array([prompt], dtype=np.int64),
            end_id=pair.end,
            vocab_size=VOCAB,
            max_new_tokens=LIMIT,
            beams=settings,
        )
        assert answers is not None
        found[row] = answers
    return found


def same_as(pair: Pair, found: dict[int, list[Decoded]], theirs: Any, count: int) -> None:
    expected = pair.answers(theirs.sequences)
    for row in ROWS:
        assert [answer.ids for answer in found[row]] == expected[row * count : (row + 1) * count]
        scores = theirs.sequences_scores[row * count : (row + 1) * count].tolist()
        assert [answer.score for answer in found[row]] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("count", [2, 5])
def test_beams_find_the_same_answers_with_the_same_scores(
    pair: Pair, count: int, length_penalty: float, early_stopping: Any
) -> None:
    """All of them, in order, for every row of a padded batch, step by step and in one call."""
    theirs = pair.theirs(
        num_beams=count,
        num_return_sequences=count,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        do_sample=False,
    )
    settings = Beams(count, count, length_penalty, early_stopping)
    same_as(pair, beams(pair, settings), theirs, count)
    every = whole(pair, settings, [pair.start])
    same_as(pair, every, theirs, count)
    # With one answer wanted a search may end sooner, but not with another answer.
    best_alone = whole(pair, replace(settings, answers=1), [pair.start])
    assert best_alone == {row: answers[:1] for row, answers in every.items()}


CONSTRAINTS = [
    ({"repetition_penalty": 1.4}, Constraints(repetition_penalty=1.4)),
    ({"no_repeat_ngram_size": 1}, Constraints(no_repeat_ngram=1)),
    ({"no_repeat_ngram_size": 3}, Constraints(no_repeat_ngram=3)),
    ({"min_new_tokens": 5}, Constraints(min_new_tokens=5)),
    ({"suppress_tokens": [1, 2, 5, 33, 69]}, Constraints(suppressed=(1, 2, 5, 33, 69))),
    (
        {"repetition_penalty": 0.8, "no_repeat_ngram_size": 2, "min_new_tokens": 3},
        Constraints(repetition_penalty=0.8, no_repeat_ngram=2, min_new_tokens=3),
    ),
]


@pytest.mark.parametrize(("settings", "constraints"), CONSTRAINTS, ids=str)
def test_constrained_beams_find_the_same_answers(pair: Pair, settings: dict[str, Any], constraints: Constraints) -> None:
    """Each constraint alone, and three together."""
    theirs = pair.theirs(num_beams=3, num_return_sequences=3, do_sample=False, **settings)
    same_as(pair, beams(pair, Beams(3, 3), constraints), theirs, 3)


def test_beams_behind_a_forced_prefix_find_the_same_answers(pair: Pair) -> None:
    """The prefix is read in one step and does not count as length."""
    prefix = [pair.start, 40, 41]
    config = GenerationConfig(
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=LIMIT,
        do_sample=False,
        pad_token_id=pair.model.config.pad_token_id,
        eos_token_id=pair.end,
        decoder_start_token_id=pair.start,
        return_dict_in_generate=True,
        output_scores=True,
    )
    with torch.no_grad():
        theirs = pair.model.generate(
            torch.tensor(pair.ids),
            attention_mask=torch.tensor(pair.mask),
            decoder_input_ids=torch.tensor([prefix] * 3),
            generation_config=config,
        )
    steps = beam_search(
        pair.runtime,
        pair.runtime.encode(pair.ids, pair.mask),
        rows=ROWS,
        prompt=prefix,
        end_id=pair.end,
        max_new_tokens=LIMIT,
        beams=Beams(3, 3),
    )
    found = outcome(steps)
    assert [answer.ids for row in ROWS for answer in found[row]] == pair.answers(theirs.sequences, prompt=len(prefix))
    found = whole(pair, Beams(3, 3), prefix)
    assert [answer.ids for row in ROWS for answer in found[row]] == pair.answers(theirs.sequences, prompt=len(prefix))


def test_greedy_under_a_prefix_constraint_takes_the_same_tokens(pair: Pair) -> None:
    """A callable that depends on the tokens so far; theirs is given the start token too."""

    def allowed(tokens: Any) -> list[int]:
        return [pair.end, *range(10 + 7 * len(tokens), 30 + 7 * len(tokens))]

    theirs = pair.theirs(num_beams=1, do_sample=False, allowed=lambda _, ids: allowed(ids.tolist()[1:]))
    rules = Rules(Constraints(allowed=allowed), (pair.start,), 1, pair.end)
    memory = pair.runtime.encode(pair.ids, pair.mask)
    choose = constrained(rules, {}, ROWS, LIMIT, best)
    steps = emissions(pair.runtime, memory, rows=ROWS, prompt=[pair.start], end_id=pair.end, max_new_tokens=LIMIT, choose=choose)
    found = collect(steps)
    assert [found[row].ids for row in ROWS] == pair.answers(theirs.sequences)


HISTORIES = [[0], [0, 5], [0, 5, 6, 5, 6], [0, 9, 9, 9], [0, 3, 4, 5, 3, 4], list(range(12))]


@pytest.mark.parametrize("history", HISTORIES, ids=len)
@pytest.mark.parametrize(
    ("constraints", "processor"),
    [
        (Constraints(repetition_penalty=1.7), RepetitionPenaltyLogitsProcessor(1.7)),
        (Constraints(repetition_penalty=0.5), RepetitionPenaltyLogitsProcessor(0.5)),
        (Constraints(no_repeat_ngram=1), NoRepeatNGramLogitsProcessor(1)),
        (Constraints(no_repeat_ngram=2), NoRepeatNGramLogitsProcessor(2)),
        (Constraints(no_repeat_ngram=3), NoRepeatNGramLogitsProcessor(3)),
        (Constraints(min_new_tokens=3), MinNewTokensLengthLogitsProcessor(1, 3, 1)),
        (Constraints(suppressed=(2, 19)), SuppressTokensLogitsProcessor([2, 19])),
        (Constraints(allowed=lambda ids: [len(ids), 15]), PrefixConstrainedLogitsProcessor(lambda _, ids: [len(ids) - 1, 15], 1)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, Constraints) else "",
)
def test_each_constraint_changes_scores_as_their_processor_does(
    history: list[int], constraints: Constraints, processor: Any
) -> None:
    """On the same log-probabilities and the same tokens so far."""
    scores = torch.randn(1, 20, generator=torch.Generator().manual_seed(len(history))).log_softmax(-1)
    expected = processor(torch.tensor([history]), scores.clone())[0].numpy()
    found = Rules(constraints, (0,), 1, 1).adjust(scores[0].numpy(), history[1:])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("sampling", "warpers"),
    [
        (Sampling(min_p=0.3), [MinPLogitsWarper(0.3)]),
        (Sampling(temperature=0.5, min_p=0.2), [TemperatureLogitsWarper(0.5), MinPLogitsWarper(0.2)]),
        (
            Sampling(temperature=1.5, top_k=9, top_p=0.8, min_p=0.1),
            [TemperatureLogitsWarper(1.5), TopKLogitsWarper(9), TopPLogitsWarper(0.8), MinPLogitsWarper(0.1)],
        ),
    ],
    ids=["min-p", "temperature and min-p", "all"],
)
def test_draws_come_from_what_their_warpers_leave(sampling: Sampling, warpers: list[Any]) -> None:
    """Every token they leave is drawn as often as they say, none other; 20,000 draws are within 5 standard deviations."""
    scores = torch.randn(1, 20, generator=torch.Generator().manual_seed(3)).log_softmax(-1)
    left = scores.clone()
    for warper in warpers:
        left = warper(torch.zeros(1, 1, dtype=torch.long), left)
    expected = left.softmax(-1)[0].numpy()
    rows = range(20_000)
    choose = drawing(Sampling(**{**_fields(sampling), "seed": 11}), {row: row for row in rows})
    drawn = choose(np.repeat(scores.numpy(), len(rows), axis=0), rows)
    shares = np.bincount(drawn, minlength=20) / len(rows)
    assert (shares[expected == 0] == 0).all()
    assert (np.abs(shares - expected) <= 5 * np.sqrt(expected * (1 - expected) / len(rows))).all()


def _fields(sampling: Sampling) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in ("temperature", "top_k", "top_p", "min_p")}

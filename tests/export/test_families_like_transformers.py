"""Every family decodes as transformers does on the same weights: drawn settings, odd cases among them, side by side."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.export.models import FAMILIES
from tests.export.test_decoding_like_transformers import ROWS, generated
from tests.export.test_onnx_programs import open_programs

from pocketseq.decoding import (
    Beams,
    Constraints,
    Rules,
    beam_search,
    best,
    collect,
    constrained,
    emissions,
    outcome,
    score_targets,
)
from pocketseq.runtimes.onnx import OnnxRuntime
from pocketseq_export.graphs import author

LONGEST = 12


class Family:
    """A model of transformers, the SDK's runtime over its weights, and three inputs of different length."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.model: Any = FAMILIES[name]()
        settings = self.model.generation_config
        settings.forced_eos_token_id = settings.forced_bos_token_id = None  # rules of a bundle, not of the weights
        self.runtime: OnnxRuntime = open_programs(author(self.model), directory, "fp32")
        config = self.model.config
        self.pad, self.start, self.end = config.pad_token_id, config.decoder_start_token_id, config.eos_token_id
        self.size = getattr(config, "decoder_vocab_size", None) or config.vocab_size
        self.mask = (np.arange(11) < np.array([[11], [5], [8]])).astype(np.int64)
        drawn = np.random.default_rng(3).integers(8, 75, (3, 11))
        self.ids = np.where(self.mask == 1, drawn, self.pad)

    def theirs(self, *, end: int, limit: int, **settings: Any) -> Any:
        return generated(self.model, self.ids, self.mask, end=end, limit=limit, do_sample=False, **settings)

    def likely_end(self) -> int:
        """The likeliest first token of the first input: as the end token it ends that answer where it begins."""
        memory = self.runtime.encode(self.ids, self.mask)
        step = self.runtime.step(np.full((3, 1), self.start), memory, self.runtime.start(3))
        return int(step.logprobs[0, -1].argmax())


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(request.param, tmp_path_factory.mktemp("programs"))


def cut(sequences: torch.Tensor, end: int) -> list[tuple[int, ...]]:
    """Each sequence without the start token, up to its end token."""
    rows = [row[1:] for row in sequences.tolist()]
    return [tuple(row[: row.index(end) + 1] if end in row else row) for row in rows]


def draw(family: Family, case: int) -> tuple[dict[str, Any], dict[str, Any], Constraints, Any]:
    """Settings of both: those of every call, of a search, and the constraints as ours and as theirs."""
    rng = random.Random(f"{family.name} {case}")
    limit = (LONGEST, 1, 2, LONGEST, LONGEST, LONGEST, LONGEST)[case]
    end = family.likely_end() if case % 2 else family.end
    count = rng.choice([2, 3, 4])
    search = {
        "num_beams": count,
        "num_return_sequences": rng.choice([1, count]),
        "length_penalty": rng.choice([1.0, 0.0, 0.6, 2.0, -1.0]),
        "early_stopping": rng.choice([True, False, "never"]),
    }
    changes: dict[str, Any] = {}
    if case >= 2:
        changes["min_new_tokens"] = rng.choice([0, 1, limit - 1])
        changes["no_repeat_ngram"] = rng.choice([0, 1, 2, 3])
        changes["repetition_penalty"] = rng.choice([1.0, 1.3, 0.8])
        changes["suppressed"] = tuple(token for token in rng.sample(range(2, 75), 6) if token != end)
    allowed = None
    if case == 6:
        changes["allowed"] = lambda ids: [end, *range(8 + len(ids), 60)]
        allowed = lambda _, ids: [end, *range(8 + len(ids) - 1, 60)]  # noqa: E731 theirs is given the start token too
    return {"end": end, "limit": limit, "allowed": allowed}, search, Constraints(**changes), changes


def their_names(changes: dict[str, Any]) -> dict[str, Any]:
    names = {
        "min_new_tokens": "min_new_tokens",
        "no_repeat_ngram": "no_repeat_ngram_size",
        "repetition_penalty": "repetition_penalty",
        "suppressed": "suppress_tokens",
    }
    plain = {name: changes[ours] for ours, name in names.items() if changes.get(ours)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


@pytest.mark.parametrize("case", [0, 1, 4, 5, 6])
def test_searches_find_the_same(family: Family, case: int) -> None:
    """The same answers in the same order with the same scores, and as many."""
    call, search, constraints, changes = draw(family, case)
    theirs = family.theirs(**call, **search, **their_names(changes))
    beams = Beams(search["num_beams"], search["num_return_sequences"], search["length_penalty"], search["early_stopping"])
    steps = beam_search(
        family.runtime,
        family.runtime.encode(family.ids, family.mask),
        rows=ROWS,
        prompt=[family.start],
        end_id=call["end"],
        max_new_tokens=call["limit"],
        beams=beams,
        rules=Rules(constraints, (family.start,), 1, call["end"]) if constraints.adjusts else None,
    )
    found, count = outcome(steps), beams.answers
    expected, scores = cut(theirs.sequences, call["end"]), theirs.sequences_scores.tolist()
    for row in ROWS:
        assert [answer.ids for answer in found[row][:count]] == expected[row * count : (row + 1) * count]
        assert [answer.score for answer in found[row][:count]] == pytest.approx(
            scores[row * count : (row + 1) * count], rel=1e-5, abs=1e-4
        )


@pytest.mark.parametrize("case", [1, 6])
def test_greedy_answers_are_the_same(family: Family, case: int) -> None:
    """Under the same drawn constraints; log-probabilities and alternatives are those of the raw distribution, within 1e-3.

    Without the repetition penalty, which theirs puts on logits where it searches without beams, and on log-probabilities with them.
    """
    call, _, _, changes = draw(family, case)
    changes.pop("repetition_penalty", None)
    constraints = Constraints(**changes)
    theirs = family.theirs(num_beams=1, **call, **their_names(changes))
    rules = Rules(constraints, (family.start,), 1, call["end"]) if constraints.adjusts else None
    steps = emissions(
        family.runtime,
        family.runtime.encode(family.ids, family.mask),
        rows=ROWS,
        prompt=[family.start],
        end_id=call["end"],
        max_new_tokens=call["limit"],
        choose=constrained(rules, {}, ROWS, call["limit"], best),
        alternatives=4,
    )
    found = collect(steps)
    assert [found[row].ids for row in ROWS] == cut(theirs.sequences, call["end"])
    raw = torch.stack(theirs.logits, dim=1).log_softmax(-1)
    values, ids = raw.topk(4)
    for row in ROWS:
        for place, token in enumerate(found[row].ids):
            assert found[row].logprobs[place] == pytest.approx(float(raw[row, place, token]), abs=1e-3)
            assert [one.id for one in found[row].alternatives[place]] == ids[row, place].tolist()
            assert [one.logprob for one in found[row].alternatives[place]] == pytest.approx(values[row, place].tolist(), abs=1e-3)


def test_given_answers_score_the_same(family: Family) -> None:
    """Of different length in one step, and the pooled state is the mean of the encoder's last states."""
    memory = family.runtime.encode(family.ids, family.mask)
    targets = [[7, 8, 9, family.end], [30, family.end], [12] * 9 + [family.end]]
    found = score_targets(family.runtime, memory, prompt=[family.start], targets=targets, pad_id=family.pad, alternatives=3)
    ids, mask = torch.tensor(family.ids), torch.tensor(family.mask)
    for row, target in enumerate(targets):
        with torch.no_grad():
            logits = family.model(
                input_ids=ids[row : row + 1],
                attention_mask=mask[row : row + 1],
                decoder_input_ids=torch.tensor([[family.start, *target[:-1]]]),
            ).logits.log_softmax(-1)[0]
        assert found[row].logprobs == pytest.approx(logits[torch.arange(len(target)), target].tolist(), abs=1e-3)
        assert [[one.id for one in place] for place in found[row].alternatives] == logits.topk(3).indices.tolist()
    with torch.no_grad():
        states = family.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    np.testing.assert_allclose(memory.pooled, pooled.numpy(), atol=1e-3)

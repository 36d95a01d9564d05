"""Greedy answers in few calls, and drafts: the same tokens as step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketseq import PocketModel
from pocketseq.bundle import open_bundle
from pocketseq.decoding import STRIDE, CopyDraft, Decoded, best, collect, drafted, drafted_answer, emissions, greedy
from pocketseq.errors import InputError
from pocketseq.runtimes import AnyRuntime, GreedyRuntime, Ids, Step, open_runtime
from pocketseq.testing import ScriptedRuntime, scripted_model

START, END, LIMIT = 0, 1, 12
ROWS = np.array([[70, 71, 72, 73], [80, 81, 0, 0], [90, 70, 71, 0]], dtype=np.int64)
MASK = (ROWS > 0).astype(np.int64)
ARGUMENTS: dict[str, Any] = {"end_id": END, "max_new_tokens": LIMIT}


@pytest.fixture(scope="module")
def runtime(pristine_bundle: Path) -> AnyRuntime:
    with open_bundle(pristine_bundle) as bundle:
        return open_runtime(bundle, bundle.manifest.variant(precision="fp32"))


def step_by_step(
    runtime: AnyRuntime, rows: slice = slice(None), prompt: Sequence[int] = (START,), **more: Any
) -> dict[int, Decoded]:
    memory, numbers = runtime.encode(ROWS[rows], MASK[rows]), range(len(ROWS))[rows]
    return collect(emissions(runtime, memory, rows=numbers, prompt=prompt, choose=best, **ARGUMENTS, **more))


def assert_same(found: dict[int, Decoded], expected: dict[int, Decoded]) -> None:
    assert found.keys() == expected.keys()
    for row, answer in found.items():
        assert (answer.ids, answer.finish_reason) == (expected[row].ids, expected[row].finish_reason)
        assert answer.logprobs == pytest.approx(expected[row].logprobs, abs=1e-4)


@pytest.mark.parametrize("prompt", [(START,), (START, 75, 77)], ids=["start", "forced prefix"])
@pytest.mark.parametrize("ahead", [None, 1, 3])
def test_many_steps_in_one_call_say_what_single_steps_say(runtime: AnyRuntime, ahead: int | None, prompt: tuple[int, ...]) -> None:
    """A batch, however often it comes back in between."""
    assert isinstance(runtime, GreedyRuntime)
    memory = runtime.encode(ROWS, MASK)
    found = collect(greedy(runtime, memory, rows=range(3), prompt=prompt, ahead=ahead, **ARGUMENTS))
    assert_same(found, step_by_step(runtime, prompt=prompt))


def test_a_row_can_end_before_the_end_token(runtime: AnyRuntime) -> None:
    """By its caller's wish after a token, or because it was halted before the next call."""
    memory = runtime.encode(ROWS, MASK)
    third = step_by_step(runtime)[0].ids[2]
    ended = {"ended": lambda row, token: "stop_string" if row == 0 and token == third else None}
    found = collect(greedy(runtime, memory, rows=range(3), prompt=[START], **ended, **ARGUMENTS))
    assert_same(found, step_by_step(runtime, **ended))
    assert found[0].finish_reason == "stop_string"
    asked: list[int] = []

    def halt(row: int) -> Any:
        asked.append(row)
        return "deadline" if row == 1 and asked.count(1) > 1 else None

    found = collect(greedy(runtime, memory, rows=range(3), prompt=[START], halt=halt, ahead=2, **ARGUMENTS))
    assert (len(found[1].ids), found[1].finish_reason) == (2, "deadline")
    assert len(found[0].ids) == LIMIT > STRIDE


class Counting:
    """A runtime that counts the steps that are asked of it."""

    def __init__(self, script: Sequence[tuple[int, float]]) -> None:
        self.runtime = ScriptedRuntime(lambda ids: script, vocab_size=100, end_id=END)
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runtime, name)

    def step(self, token_ids: Ids, memory: Any, cache: Any) -> Step[Any]:
        self.steps += 1
        return self.runtime.step(token_ids, memory, cache)


def draft(runtime: Any, document: Sequence[int], limit: int = 100, **more: Any) -> Decoded:
    memory = runtime.encode(ROWS[:1], MASK[:1])
    arguments: dict[str, Any] = {"prompt": [START], "end_id": END, "max_new_tokens": limit}
    found = collect(drafted(runtime, memory, rows=[0], draft=CopyDraft(document), **arguments, **more))[0]
    if not more:
        assert drafted_answer(runtime, memory, draft=CopyDraft(document), **arguments) == found
    return found


@pytest.mark.parametrize(
    ("answer", "most_steps"),
    [
        ([*range(10, 60)], 3),
        ([*range(10, 30), 99, *range(31, 60)], 4),
        ([*range(10, 30), *range(34, 60)], 4),
        ([*range(10, 30), 99, *range(30, 60)], 6),
        ([99, 98, 97], 4),
        ([], 1),
    ],
    ids=["copied", "one token replaced", "some left out", "one put in", "nothing copied", "empty"],
)
def test_a_draft_spares_steps_where_the_answer_copies(answer: list[int], most_steps: int) -> None:
    """And what it guesses wrong costs no token: the answer is the script's, whatever was guessed."""
    runtime = Counting([(token, 0.5) for token in answer])
    found = draft(runtime, [*range(10, 60), END])
    assert found.ids == (*answer, END)
    assert found.logprobs == pytest.approx([*[np.log(0.5)] * len(answer), 0.0])
    assert found.finish_reason == "stop"
    assert runtime.steps <= 2 * most_steps, "once token by token, once whole"


@pytest.mark.parametrize("document", [[], [70, 71, 72], [75] * 40, [*range(60, 100)]])
def test_a_drafted_answer_is_the_greedy_one(runtime: AnyRuntime, document: list[int]) -> None:
    """On a model that copies nothing."""
    assert_same({0: draft(runtime, document, LIMIT)}, step_by_step(runtime, slice(1)))
    greedy_ids = step_by_step(runtime, slice(1))[0].ids
    assert draft(runtime, greedy_ids, LIMIT).ids == greedy_ids


def test_a_drafted_answer_ends_as_others_do() -> None:
    """At the limit, at its caller's wish, or halted."""
    script = [(token, 0.5) for token in range(10, 60)]
    document = [token for token, _ in script]
    cut = draft(Counting(script), document, limit=5)
    assert (cut.ids, cut.finish_reason) == ((10, 11, 12, 13, 14), "length")
    wished = draft(Counting(script), document, ended=lambda row, token: "stop_string" if token == 12 else None)
    assert (wished.ids, wished.finish_reason) == ((10, 11, 12), "stop_string")
    halted = draft(Counting(script), document, halt=lambda row: "cancelled")
    assert (halted.ids, halted.finish_reason) == ((), "cancelled")


def test_a_caller_drafts_by_the_input_or_by_a_text() -> None:
    """The answer is the same with and without."""
    model = scripted_model({"a rnage of ten": "a range of ten"})
    plain = model.generate("a rnage of ten")
    for given in (True, False, "a range of ten", ""):
        assert model.generate("a rnage of ten", draft=given).tokens == plain.tokens
    assert "".join(model.stream("a rnage of ten", draft=True)) == plain.text
    constrained = model.generate("a rnage of ten", draft="a range")
    assert constrained.token_logprobs == pytest.approx(plain.token_logprobs)


def test_a_draft_that_cannot_be_is_refused(edits_bundle: Path) -> None:
    """By name: with draws or beams, of another type, or where answers are edits."""
    from pocketseq.decoding import Beams, Constraints, Sampling

    model = scripted_model({})
    refused: list[tuple[dict[str, Any], str]] = [
        ({"sampling": Sampling()}, "a draft or sampling"),
        ({"beams": Beams()}, "a draft or beams"),
        ({"alternatives": 2}, "a draft or alternatives"),
        ({"constraints": Constraints(min_new_tokens=3)}, "a draft or constraints"),
    ]
    for options, message in refused:
        with pytest.raises(InputError, match=message):
            model.generate("x", draft=True, **options)
    with pytest.raises(InputError, match="draft: expected True, False, a text or None, found 3"):
        model.generate("x", draft=3)  # type: ignore[arg-type]
    with (
        PocketModel.load(edits_bundle) as edits,
        pytest.raises(InputError, match="draft: expected a bundle that answers with text"),
    ):
        edits.generate("x", draft=True)

"""Decoding: pure, over any runtime; here over plain numpy and over scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from pocketseq.decoding import Decoded, Sampling, best, collect, drawing, emissions, greedy
from pocketseq.errors import InputError
from pocketseq.runtimes import AnyRuntime
from pocketseq.testing import ScriptedRuntime

from .tiny import NumpyRuntime, make_weights

START, END, LIMIT = 0, 1, 12
ROWS = [[70, 71, 72, 73], [80, 81], [90, 70, 71]]


def padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    longest = max(map(len, rows))
    ids = np.array([[*row, *[0] * (longest - len(row))] for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], dtype=np.int64)
    return ids, mask


def decode(
    runtime: AnyRuntime, rows: Sequence[Sequence[int]], *, numbers: Sequence[int] | None = None, sampling: Sampling | None = None
) -> list[Decoded]:
    numbers = list(range(len(rows))) if numbers is None else numbers
    memory = runtime.encode(*padded(rows))
    choose = best if sampling is None else drawing(sampling, {number: number for number in numbers})
    answers = collect(emissions(runtime, memory, rows=numbers, prompt=[START], end_id=END, max_new_tokens=LIMIT, choose=choose))
    return [answers[number] for number in numbers]


@pytest.fixture(scope="module")
def runtime() -> NumpyRuntime:
    return NumpyRuntime(make_weights(120))


def scripted(scripts: dict[tuple[int, ...], list[tuple[int, float]]]) -> ScriptedRuntime:
    return ScriptedRuntime(lambda ids: scripts[ids], vocab_size=10, end_id=END)


def test_greedy_takes_the_likeliest_token_of_each_prefix(runtime: NumpyRuntime) -> None:
    """Step by step with a cache, and the whole prefix at once without: the same tokens and log-probabilities."""
    [answer] = decode(runtime, ROWS[:1])
    memory = runtime.encode(*padded(ROWS[:1]))
    prefix = [START]
    for token, logprob in zip(answer.ids, answer.logprobs, strict=True):
        scores = runtime.step(np.array([prefix]), memory, runtime.start(1)).logprobs[0, -1]
        assert token == int(scores.argmax())
        assert logprob == pytest.approx(float(scores[token]), abs=1e-4)
        prefix.append(token)


def test_an_answer_stops_at_the_end_token_and_holds_it() -> None:
    """The end token has its log-probability like every other."""
    [answer] = decode(scripted({(5,): [(7, 0.5), (END, 0.25)]}), [[5]])
    assert answer.ids == (7, END)
    assert answer.logprobs == pytest.approx((math.log(0.5), math.log(0.25)))
    assert answer.finish_reason == "stop"


def test_an_answer_that_does_not_end_is_cut_at_the_limit() -> None:
    """And says so."""
    [answer] = decode(scripted({(5,): [(7, 0.5)] * 50}), [[5]])
    assert len(answer.ids) == LIMIT
    assert answer.finish_reason == "length"


def test_rows_that_end_leave_the_batch() -> None:
    """No step is spent on a finished row, and the others go on."""
    runtime = scripted({(3,): [(7, 0.5)] * 2, (4,): [], (5,): [(8, 0.5)] * 4})
    memory = runtime.encode(*padded([[3], [4], [5]]))
    live = [
        list(step.rows) for step in greedy(runtime, memory, rows=[10, 11, 12], prompt=[START], end_id=END, max_new_tokens=LIMIT)
    ]
    assert live == [[10, 11, 12], [10, 12], [10, 12], [12], [12]]


def test_a_batch_answers_as_its_rows_alone(runtime: NumpyRuntime) -> None:
    """Padding and neighbours change nothing."""
    together = decode(runtime, ROWS)
    for row, answer in zip(ROWS, together, strict=True):
        [alone] = decode(runtime, [row])
        assert answer.ids == alone.ids
        assert answer.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_a_closed_iterator_stops_the_model() -> None:
    """Cancelling costs at most the step that is under way."""
    steps = greedy(
        scripted({(5,): [(7, 0.5)] * 50}),
        scripted({(5,): [(7, 0.5)] * 50}).encode(*padded([[5]])),
        rows=[0],
        prompt=[START],
        end_id=END,
        max_new_tokens=LIMIT,
    )
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert next(steps, None) is None


def test_the_same_seed_draws_the_same_whatever_is_beside(runtime: NumpyRuntime) -> None:
    """A row's draws hang on seed and number, not on the batch."""
    sampling = Sampling(temperature=4.0, seed=3)
    together = decode(runtime, ROWS, sampling=sampling)
    assert decode(runtime, ROWS, sampling=sampling) == together
    assert decode(runtime, ROWS[1:2], numbers=[1], sampling=sampling)[0].ids == together[1].ids
    assert decode(runtime, ROWS, sampling=Sampling(temperature=4.0, seed=4)) != together


def test_log_probabilities_are_those_before_sampling(runtime: NumpyRuntime) -> None:
    """Confidence does not hang on how the token was drawn."""
    [answer] = decode(runtime, ROWS[:1], sampling=Sampling(temperature=5.0, top_k=20, top_p=0.9, seed=1))
    memory = runtime.encode(*padded(ROWS[:1]))
    scores = runtime.step(np.array([[START, *answer.ids[:-1]]]), memory, runtime.start(1)).logprobs[0]
    raw = scores[np.arange(len(answer.ids)), list(answer.ids)]
    assert answer.logprobs == pytest.approx(raw.tolist(), abs=1e-4)


def test_keeping_one_token_is_greedy(runtime: NumpyRuntime) -> None:
    """By top-k, by a tiny top-p and by a tiny temperature alike."""
    greedy = decode(runtime, ROWS)
    for sampling in (Sampling(top_k=1, seed=0), Sampling(top_p=1e-9, seed=0), Sampling(temperature=1e-6, seed=0)):
        assert [answer.ids for answer in decode(runtime, ROWS, sampling=sampling)] == [answer.ids for answer in greedy]


def drawn(sampling: Sampling, probabilities: Sequence[float], draws: int) -> np.ndarray:
    """Frequencies of first tokens over many rows of one distribution."""

    class Fixed(ScriptedRuntime):
        def step(self, token_ids, memory, cache):  # type: ignore[no-untyped-def]
            step = super().step(token_ids, memory, cache)
            step.logprobs[...] = np.log(probabilities)
            return step

    runtime = Fixed(lambda ids: [], vocab_size=len(probabilities), end_id=END)
    memory = runtime.encode(*padded([[5]] * draws))
    choose = drawing(sampling, {row: row for row in range(draws)})
    first = next(emissions(runtime, memory, rows=range(draws), prompt=[START], end_id=END, max_new_tokens=1, choose=choose))
    return np.bincount(first.ids, minlength=len(probabilities)) / draws


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(seed=1), [0.1, 0.2, 0.3, 0.4]),
        (Sampling(temperature=0.5, seed=1), [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        (Sampling(top_k=2, seed=1), [0, 0, 3 / 7, 4 / 7]),
        (Sampling(top_p=0.65, seed=1), [0, 0, 3 / 7, 4 / 7]),
        (Sampling(top_p=0.75, seed=1), [0, 2 / 9, 3 / 9, 4 / 9]),
        (Sampling(top_k=3, top_p=0.5, seed=1), [0, 0, 3 / 7, 4 / 7]),
        (Sampling(top_k=99, top_p=1.0, seed=1), [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_draws_follow_the_distribution_that_is_left(sampling: Sampling, expected: list[float]) -> None:
    """Temperature first, then top-k, then top-p over what top-k left; 4,000 draws are within 4 standard deviations."""
    frequencies = drawn(sampling, [0.1, 0.2, 0.3, 0.4], 4000)
    for frequency, probability in zip(frequencies, expected, strict=True):
        assert abs(frequency - probability) <= 4 * math.sqrt(probability * (1 - probability) / 4000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature: expected a number above 0, found 0.0; sampling=None is greedy"),
        ({"temperature": float("nan")}, "temperature: expected a number above 0"),
        ({"top_k": 0}, "top_k: expected a whole number of at least 1, found 0"),
        ({"top_p": 1.5}, "top_p: expected a number above 0 and up to 1, found 1.5"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, found -1"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    """By name, with what to give instead."""
    with pytest.raises(InputError, match=message):
        Sampling(**arguments)  # type: ignore[arg-type]

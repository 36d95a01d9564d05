"""Confidence: scorers, features and the gate against numbers by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pocketseq.confidence import (
    DEFAULT_SCORER,
    FEATURES,
    PLAIN_FEATURES,
    SCORERS,
    Evidence,
    Logistic,
    chow_quantile,
    confidence,
    features,
    gate,
    gate_names,
    learned_scorer,
    sigmoid,
    spread_of,
)
from pocketseq.errors import BundleFormatError

LOGPROBS = (math.log(0.5), math.log(0.8), math.log(0.9))
EVIDENCE = Evidence(
    LOGPROBS, tokens=(5, 5, 1), entropies=(0.7, 0.5, 0.3), gaps=(math.log(2), 2.0, 3.0), source=(7, 5, 8), truncated=True
)


@pytest.mark.parametrize(
    ("scorer", "expected"),
    [
        ("chow_sum", 0.36),
        ("chow_average", 0.36 ** (1 / 3)),
        ("chow_minimum", 0.5),
        ("chow_quantile_10", math.exp(0.8 * math.log(0.5) + 0.2 * math.log(0.8))),
        ("chow_quantile_25", math.sqrt(0.5 * 0.8)),
        ("chow_quantile_50", 0.8),
        ("first_token", 0.5),
        ("entropy", math.exp(-0.5)),
        ("beam_margin", 0.5),
    ],
)
def test_scorers_give_the_numbers_by_hand(scorer: str, expected: float) -> None:
    """Product, geometric mean, quantiles and first of the tokens' probabilities, mean entropy, nearest rival."""
    assert confidence(EVIDENCE, SCORERS[scorer]) == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.0, 0.1, 0.33, 0.5, 0.9, 1.0])
def test_quantiles_are_those_of_numpy(level: float) -> None:
    """Against the slow reference, on lengths from 1."""
    rng = np.random.default_rng(3)
    for length in (1, 2, 7, 24):
        logprobs = tuple((-rng.exponential(2, length)).tolist())
        found = confidence(Evidence(logprobs), chow_quantile(level))
        assert found == pytest.approx(math.exp(float(np.quantile(logprobs, level))))


def test_beams_bring_their_own_margin() -> None:
    """The best answer is four times as likely as the second: three quarters; a second that is likelier leaves nothing."""
    one = Evidence((math.log(0.4), math.log(0.5)), rival=math.log(0.05))
    assert confidence(one, SCORERS["beam_margin"]) == pytest.approx(0.75)
    other = Evidence((math.log(0.4), math.log(0.5)), rival=math.log(0.3))
    assert confidence(other, SCORERS["beam_margin"]) == 0.0


def test_the_default_is_the_probability_of_the_whole_answer() -> None:
    """A number with a meaning, for a model that nobody calibrated."""
    assert DEFAULT_SCORER == "chow_sum"
    assert confidence(EVIDENCE) == pytest.approx(0.36)


@pytest.mark.parametrize("scorer", sorted(SCORERS))
def test_confidence_stays_between_0_and_1(scorer: str) -> None:
    """Also where rounding left a log-probability above zero, for an impossible token, and for a long unlikely answer."""
    sure = Evidence((1e-7, 0.0), entropies=(0.0, 0.0), gaps=(math.inf, math.inf))
    assert confidence(sure, SCORERS[scorer]) == pytest.approx(1.0)
    lost = Evidence((-math.inf, -math.inf), entropies=(math.inf, 1.0), gaps=(0.0, 0.0))
    assert confidence(lost, SCORERS[scorer]) == 0.0
    unlikely = Evidence((-1e9,) * 50, entropies=(9.0,) * 50, gaps=(1e-9,) * 50)
    assert 0 <= (confidence(unlikely, SCORERS[scorer]) or 0) <= 1


@pytest.mark.parametrize("logprobs", [(), (-0.1, math.nan)])
def test_no_confidence_is_made_up(logprobs: tuple[float, ...]) -> None:
    """Without tokens, or where the runtime computed no number, there is none."""
    assert confidence(Evidence(logprobs)) is None


@pytest.mark.parametrize("scorer", [SCORERS["entropy"], SCORERS["beam_margin"], learned_scorer(Logistic((), (), (), (), 1.0))])
def test_a_scorer_without_what_it_looks_at_says_nothing(scorer: object) -> None:
    """Rather than take an absent spread for certainty."""
    assert confidence(Evidence(LOGPROBS), scorer) is None  # type: ignore[arg-type]


def test_the_spread_of_a_distribution_by_hand() -> None:
    """Half, a quarter and a quarter: 1.5 bits, and the first is twice as likely as the next; certainty has none and no rival."""
    halves = np.array([[math.log(0.25), math.log(0.5), math.log(0.25)], [-math.inf, -math.inf, 0.0]], dtype=np.float32)
    found = spread_of(halves)
    assert found.dtype == np.float32
    assert found[0] == pytest.approx([1.5 * math.log(2), math.log(2)], rel=1e-6)
    assert found[1].tolist() == [0.0, math.inf]


def test_the_spread_agrees_with_a_slow_reference() -> None:
    """Over random distributions, the likeliest token first, last and twice."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, (20, 50))
    logits[0, 0], logits[1, -1], logits[2, 3], logits[2, 9] = 20, 20, 20, 20
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for row, (entropy, gap) in zip(logprobs, spread_of(logprobs.astype(np.float32)), strict=True):
        ordered = sorted(row)
        assert entropy == pytest.approx(-sum(math.exp(value) * value for value in row), abs=1e-5)
        assert gap == pytest.approx(ordered[-1] - ordered[-2], abs=1e-5)


def test_features_by_hand() -> None:
    """Each by its name, in the order that a learned scorer is fitted in."""
    found = features(EVIDENCE)
    assert tuple(found) == FEATURES
    assert found["logprob_minimum"] == math.log(0.5)
    assert found["logprob_sum"] == pytest.approx(math.log(0.36))
    assert found["logprob_mean"] == pytest.approx(math.log(0.36) / 3)
    assert (found["length"], found["repetition"], found["truncated"], found["finished"]) == (3, pytest.approx(1 / 3), 1, 1)
    assert (found["probability"], found["probability_first"]) == (pytest.approx(0.36), pytest.approx(0.5))
    assert (found["gap_minimum"], found["gap_first"], found["closeness"]) == (math.log(2), math.log(2), pytest.approx(0.5))
    assert (found["entropy_mean"], found["entropy_sum"], found["entropy_maximum"]) == (pytest.approx(0.5), pytest.approx(1.5), 0.7)
    assert found["input_length"] == pytest.approx(math.log(4))
    assert tuple(features(replace(EVIDENCE, entropies=(), gaps=()))) == PLAIN_FEATURES == FEATURES[: len(PLAIN_FEATURES)]


def test_what_is_copied_and_what_is_new_by_hand() -> None:
    """Of 5, 5, 1 the source 7, 5, 8 has the fives, but no two of them side by side; of 7, 5, 1 it has the first pair."""
    found = features(EVIDENCE)
    assert (found["copied"], found["novel"], found["novel_logprob"]) == (pytest.approx(2 / 3), 1, pytest.approx(math.log(0.9)))
    assert (found["copied_pairs"], found["novel_pairs"]) == (0, 2)
    assert found["novel_pairs_logprob"] == pytest.approx(math.log(0.8 * 0.9))
    assert found["familiarity"] == pytest.approx(2 / 3 * math.log(2))
    other = features(replace(EVIDENCE, tokens=(7, 5, 1)))
    assert (other["copied_pairs"], other["novel_pairs"]) == (0.5, 1)
    alone = features(Evidence((-0.1,), (5,), source=(5, 5)))
    assert (alone["copied"], alone["copied_pairs"], alone["novel_pairs"]) == (1, 1, 0)


def test_features_are_numbers_whatever_came() -> None:
    """An impossible token and a token without a rival are as far as it goes."""
    found = features(Evidence((-math.inf, 0.0), (1, 1), (0.0, 3.0), (math.inf, 0.0)))
    assert all(map(math.isfinite, found.values()))


def test_a_learned_scorer_is_a_probability() -> None:
    """Log-odds of 1 + 2 · (ln ½ − (−1)) / 0.5, by hand."""
    scorer = learned_scorer(Logistic(("logprob_minimum",), (-1.0,), (0.5,), (2.0,), 1.0))
    log_odds = 1 + 2 * (math.log(0.5) + 1) / 0.5
    assert confidence(EVIDENCE, scorer) == pytest.approx(1 / (1 + math.exp(-log_odds)))
    assert not scorer.looks_at_spread
    assert learned_scorer(Logistic(("entropy_sum",), (0.0,), (1.0,), (1.0,), 0.0)).looks_at_spread


@pytest.mark.parametrize("log_odds", [-800.0, -31.0, -29.0, -1.0, 0.0, 2.0, 800.0])
def test_the_sigmoid_neither_overflows_nor_leaves_0_to_1(log_odds: float) -> None:
    """Against the plain formula where it can be computed."""
    plain = 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
    assert sigmoid(log_odds) == pytest.approx(plain, rel=1e-12)


def test_a_gate_reads_the_pooled_state_and_the_length() -> None:
    """1 · 0.5 + 2 · 0.25 + 3 · ln 10, by hand."""
    names = gate_names(2)
    judge = gate(Logistic(names, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 2.0, 3.0), 0.0))
    assert names == ("pooled:2", "input_length")
    assert judge(np.array([[0.5, 0.25], [0.0, 0.0]], dtype=np.float32), [9, 0]) == pytest.approx([1 + 3 * math.log(10), 0])


def test_numbers_of_another_length_are_refused() -> None:
    """A regression over three features needs three of each."""
    with pytest.raises(BundleFormatError, match="expected 3 means, scales above 0 and weights, found 2, 3 and 3; calibrate again"):
        Logistic(("pooled:2", "input_length"), (0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.0)
    with pytest.raises(BundleFormatError, match="scales above 0"):
        Logistic(("length",), (0.0,), (0.0,), (1.0,), 0.0)

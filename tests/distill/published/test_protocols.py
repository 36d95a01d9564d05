"""Protocols: what the published tables count, and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq_distill.published.protocols import edit_counts, error_counts, exact_counts, lead, protocol_of, scores, token_counts


def rows(*targets: str, kind: str = "") -> list[Example]:
    return [Example(id=str(number), fields={"text": "x"}, target=target, kind=kind) for number, target in enumerate(targets)]


def test_word_errors_by_hand() -> None:
    """A word is wrong if any symbol is: two of four here; five edits for ten symbols of the truth."""
    truth = rows("k æ t", "d ɔ ɡ", "ɪ", "t͡ʃ ɪ n")
    wer, per = scores("word-errors", truth, ["k æ t", "d ɑ ɡ s", "", "t͡ʃ ɪ n"])
    assert (wer.name, wer.value, wer.better, wer.n) == ("wer", 50.0, "lower", 4)
    assert (per.name, per.value) == ("per", 30.0)


def test_every_line_is_a_word_of_its_own() -> None:
    """Where a word stands on two lines with two pronunciations, an answer is right on the line that has it."""
    assert error_counts(["a b", "a b"], ["a b", "a c"]).tolist() == [[0, 1], [1, 1]]


def test_edits_are_counted_in_symbols() -> None:
    """An affricate is one symbol however many characters it is written with; white space is none."""
    assert edit_counts(["t͡ʃ  æ", "a b c", "", "x y"], ["d æ", "a c", "a b", "y x"]).tolist() == [[1, 2], [1, 2], [2, 2], [2, 2]]


def test_exact_match_of_code_translation_is_of_the_whole_line() -> None:
    """CodeXGLUE strips both ends and compares the rest as it is."""
    assert exact_counts([" a  b ", "a b"], ["a  b", "a  b"])[:, 0].tolist() == [1, 0]


def test_exact_match_of_a_line_of_python_is_of_its_tokens() -> None:
    """White space between tokens tells nothing, within a string it does; what is no Python is held to its words."""
    target = "f ( self . x , 'a b' )"
    answers = ["f(  self .x, 'a b')", "f ( self . y , 'a b' )", "f ( self . x , 'a  b' )", "f ( self . x , 'a b'"]
    assert token_counts(answers, [target] * 4)[:, 0].tolist() == [1, 0, 0, 0]
    assert token_counts(["x = (  1", "x = ( 2"], ["x = ( 1"] * 2)[:, 0].tolist() == [1, 0]


def test_code_translation_has_two_scores() -> None:
    """BLEU decides, exact match stands beside it."""
    bleu, exact = scores("code-bleu", rows("int x = 1;", "int y = 2;"), ["int x = 1;", "int y = 3;"])
    assert (bleu.name, exact.name, exact.value) == ("bleu", "exact_match", 50.0)
    shared, given = np.array([7, 5, 3, 1]) + 1, np.array([8, 6, 4, 2]) + 1
    assert bleu.value == round(100 * float(np.exp(np.log(shared / given).mean())), 2)


def test_clean_rows_are_scored_apart() -> None:
    """Rows that share a side with train count in the first score and not in the second."""
    found = scores("code-match", [*rows("a", "b", kind="seen"), *rows("c", "d", kind="clean")], ["a", "b", "c", "x"])
    assert [(score.name, score.value, score.n) for score in found] == [("exact_match", 75.0, 4), ("exact_match_clean", 50.0, 2)]


def test_repairs_are_counted_apart_from_false_alarms() -> None:
    """Three lines with a slip, two of them repaired, indentation and all; two right ones, of which one is changed."""
    examples = [*rows("a", "  b", "c", kind="name"), *rows("d", "e", kind="clean")]
    found = scores(protocol_of("python-fix"), examples, ["a", "b", "c", "d", "y"])
    assert [(score.name, score.value, score.better, score.n) for score in found] == [
        ("exact_match", 60.0, "higher", 5),
        ("repaired", 66.67, "higher", 3),
        ("false_alarms", 50.0, "lower", 2),
    ]


def test_other_answers_are_judged_whole_and_by_likeness() -> None:
    """As completions of lines are: exact match, and the share of characters that need no edit."""
    exact, alike = scores(protocol_of("python-line"), rows("abcd", "xyz"), ["abcd", "xy"])
    assert (exact.name, exact.value) == ("exact_match", 50.0)
    assert (alike.name, alike.value) == ("edit_similarity", 83.33)
    assert protocol_of("of-your-own") == protocol_of("python-line")
    assert protocol_of("django") == "code-match"


def test_a_score_without_rows_is_left_out() -> None:
    """Where no row is clean there is nothing to say of them."""
    assert [score.name for score in scores("code-match", rows("a", kind="seen"), ["a"])] == ["exact_match"]


def test_an_interval_is_that_of_the_binomial() -> None:
    """A share of 400 rows: the percentiles of the resampled share are near the normal approximation, and the same on every run."""
    truth = rows(*["a"] * 400)
    answers = ["a"] * 100 + ["b"] * 300
    (score, _) = scores("word-errors", truth, answers)
    half = 1.96 * 100 * (0.25 * 0.75 / 400) ** 0.5
    assert score.value == 75.0
    assert score.low == pytest.approx(75 - half, abs=0.6)
    assert score.high == pytest.approx(75 + half, abs=0.6)
    assert scores("word-errors", truth, answers)[0] == score


def test_answers_that_do_not_go_with_the_rows_are_refused() -> None:
    """A score of part of a test set compares with nothing."""
    with pytest.raises(DataError, match="found 1 for 2 rows"):
        scores("caption-bleu", rows("a", "b"), ["a"])


def test_a_lead_is_measured_on_the_same_samples_of_rows() -> None:
    """The second model is right where the first is, but for a fifth of those rows: their intervals overlap, the lead is sure."""
    truth = rows(*(f"a {number}" for number in range(200)))
    answers = [row.target if number % 2 else "x" for number, row in enumerate(truth)]
    others = [answer if number % 10 != 1 else "x" for number, answer in enumerate(answers)]
    first, second = (scores("word-errors", truth, each)[0] for each in (answers, others))
    assert second.low < first.high
    ahead = lead("word-errors", truth, answers, others)
    assert ahead.value == second.value - first.value == 10.0
    assert 5.0 < ahead.low < 10.0 < ahead.high < 15.0
    behind = lead("word-errors", truth, others, answers)
    assert (behind.value, behind.low, behind.high) == (-10.0, -ahead.high, -ahead.low)
    assert lead("word-errors", truth, answers, answers).high == 0.0
    with pytest.raises(DataError, match="found 199 for 200 rows"):
        lead("word-errors", truth, answers, others[1:])

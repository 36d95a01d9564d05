"""Metrics: against numbers by hand and against the tools that set the standard."""

from __future__ import annotations

import pytest
from sacrebleu.metrics.chrf import CHRF

from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.metrics import chrf, edit_similarity, evaluate_rows, exact_match, parses

ANSWERS = ["for i in range(10):", "the cat sat", "", "ab", "naïve café"]
TARGETS = ["for i in range(11):", "a cat sat down", "something", "a", "naive cafe"]


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [
        ("kitten", "sitting", 1 - 3 / 7),
        ("rnage", "range", 1 - 2 / 5),
        ("abc", "abc", 1.0),
        ("", "", 1.0),
        ("", "abc", 0.0),
        ("aXb", "ab", 1 - 1 / 3),
        ("aa", "aaa", 1 - 1 / 3),
        ("ab", "ba", 0.0),
    ],
)
def test_edit_similarity_gives_the_numbers_by_hand(answer: str, target: str, expected: float) -> None:
    """One minus the distance over the longer length, either way round."""
    assert edit_similarity(answer, target) == pytest.approx(expected)
    assert edit_similarity(target, answer) == pytest.approx(expected)


def test_exact_match_is_a_share() -> None:
    """To the character."""
    assert exact_match(["a", "b ", "c", "D"], ["a", "b", "c", "d"]) == 0.5


def test_chrf_is_the_standard_one() -> None:
    """Over a corpus and for each pair, as sacrebleu computes it."""
    standard = CHRF()
    assert chrf(ANSWERS, TARGETS) == pytest.approx(standard.corpus_score(ANSWERS, [TARGETS]).score / 100, abs=1e-9)
    for answer, target in zip(ANSWERS, TARGETS, strict=True):
        expected = standard.sentence_score(answer, [target]).score / 100
        assert chrf([answer], [target]) == pytest.approx(expected, abs=1e-9)


def test_chrf_gives_the_number_by_hand() -> None:
    """'ab' for 'ac': unigrams 1 of 2 both ways, bigrams 0 of 1: F2 of a precision and a recall of 1/4."""
    assert chrf(["ab"], ["ac"]) == pytest.approx(0.25)
    assert chrf(["same text"], ["same text"]) == 1.0
    assert chrf(["x"], ["y"]) == 0.0


@pytest.mark.parametrize(
    "line",
    [
        "x = 1",
        "    return self.x",
        "if a:",
        "for i in range(10):  # a comment",
        "elif b == 2:",
        "else:",
        "else: x = 1",
        "try:",
        "except ValueError as error:",
        "except (A, B): pass",
        "finally:",
        "with open(p) as f, g() as h:",
        "class A(B, metaclass=C):",
        "async def f(x: int = 3) -> str:",
        "    await x",
        "@property",
        "@decorator(1)",
        "case [1, *rest] if rest:",
        "match command.split():",
        "yield from x",
        "break",
        "# only a comment",
        r"pattern = '\d+'",
        "lambda: 0",
    ],
)
def test_lines_that_can_stand_in_a_file_parse(line: str) -> None:
    """What a line needs around it is put there, and an invalid escape is no error."""
    assert parses(line)


@pytest.mark.parametrize(
    "line",
    ["x = = 1", "if a", "for i in range(10:", "elif:", "def f(:", "foo(a,", "return return", "x = 'abc", "a b", "\0", "(" * 500],
)
def test_lines_that_cannot_stand_in_a_file_do_not_parse(line: str) -> None:
    """Whatever is put around them; none of them crashes."""
    assert not parses(line)


def row(number: int, line: str, target: str, kind: str = "") -> Example:
    return Example(id=str(number), fields={"line": line}, target=target, kind=kind)


def test_rows_are_counted_by_hand() -> None:
    """Five rows: two of three slips repaired, one false alarm of two, one answer that no longer parses."""
    rows = [
        row(1, "retrun x", "return x", "typo"),
        row(2, "x == 1", "x = 1", "operator"),
        row(3, "f(x", "f(x)", "bracket"),
        row(4, "y = 2", "y = 2", "clean"),
        row(5, "z = 3", "z = 3", "clean"),
    ]
    found = evaluate_rows(rows, ["return x", "x = 1", "f(x", "y = 2", "z == 3"], primary="line")
    assert found.n == 5
    assert found.exact_match == 3 / 5
    assert found.repaired == 2 / 3
    assert found.false_alarms == 1 / 2
    assert found.parses == 4 / 5
    assert found.edit_similarity == pytest.approx((1 + 1 + 3 / 4 + 1 + 5 / 6) / 5)
    assert {kind: (part.n, part.exact_match) for kind, part in found.by_kind.items()} == {
        "bracket": (1, 0.0),
        "clean": (2, 0.5),
        "operator": (1, 1.0),
        "typo": (1, 1.0),
    }


def test_what_cannot_be_measured_is_none() -> None:
    """No slip to repair, nothing that was right already, no target that is Python: no number rather than a zero."""
    translation = [Example(id="1", fields={"text": "guten Tag"}, target="good day !")]
    found = evaluate_rows(translation, ["good day !"], primary="text")
    assert (found.parses, found.false_alarms, found.repaired, found.by_kind) == (None, None, 1.0, {})
    clean = evaluate_rows([row(1, "x = 1", "x = 1")], ["x = 1"], primary="line")
    assert (clean.repaired, clean.false_alarms) == (None, 0.0)


@pytest.mark.parametrize("answers", [[], ["a", "b"]])
def test_each_row_needs_its_answer(answers: list[str]) -> None:
    """A misaligned list of answers is no measurement."""
    with pytest.raises(DataError, match="expected one answer for each row"):
        evaluate_rows([row(1, "x", "x")], answers, primary="line")

"""Filters choose a target for each row, and count and show what they remove."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.distill.models import TEMPLATE, repair_examples

from pocketseq.errors import RecipeError
from pocketseq.examples import Example
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.labelling.filters import Filtered, FilterSettings, filter_rows
from pocketseq_distill.labelling.labels import Label, OtherAnswer, source_digest
from pocketseq_distill.tokenizer import read_tokenizer

RIGHT, WRONG, EMPTY, CUT, MISSING = repair_examples(5)


def label(example: Example, text: str, finish_reason: str = "stop") -> Label:
    return Label(id=example.id, source=source_digest(example), text=text, logprob=-1.0, finish_reason=finish_reason)


LABELS: Mapping[str, Label] = {
    RIGHT.id: label(RIGHT, RIGHT.target),
    WRONG.id: label(WRONG, WRONG.fields["line"]),
    EMPTY.id: label(EMPTY, " "),
    CUT.id: label(CUT, "index of", "length"),
}


@pytest.fixture(scope="module")
def tokenizer(teacher_path: Path) -> TextTokenizer:
    return read_tokenizer(teacher_path, TEMPLATE)


def run(tokenizer: TextTokenizer, settings: FilterSettings) -> Filtered:
    return filter_rows([RIGHT, WRONG, EMPTY, CUT, MISSING], LABELS, TEMPLATE, tokenizer, settings)


def test_unusable_answers_are_removed_and_counted(tokenizer: TextTokenizer) -> None:
    """Empty, unfinished and missing ones go; a wrong one is still the teacher's and stays."""
    filtered = run(tokenizer, FilterSettings())
    assert [(row.id, row.target) for row in filtered.rows] == [(RIGHT.id, RIGHT.target), (WRONG.id, WRONG.fields["line"])]
    assert filtered.removed == {"empty": 1, "truncated": 1, "unlabelled": 1}
    assert filtered.references == 0
    assert filtered.agreement == 0.25


def test_wrong_answers_can_be_dropped(tokenizer: TextTokenizer) -> None:
    """What differs from the reference goes too."""
    filtered = run(tokenizer, FilterSettings(wrong="drop"))
    assert [row.id for row in filtered.rows] == [RIGHT.id]
    assert filtered.removed == {"wrong": 1, "empty": 1, "truncated": 1, "unlabelled": 1}


def test_the_reference_can_stand_in(tokenizer: TextTokenizer) -> None:
    """For wrong, empty and unfinished answers, and for rows that were not asked."""
    filtered = run(tokenizer, FilterSettings(wrong="reference", unlabelled="reference"))
    assert [row.target for row in filtered.rows] == [row.target for row in (RIGHT, WRONG, EMPTY, CUT, MISSING)]
    assert filtered.references == 4
    assert not filtered.removed


@pytest.mark.parametrize("settings", [FilterSettings(wrong="reference"), FilterSettings(unlabelled="reference")])
def test_references_that_no_row_has_cannot_stand_in(tokenizer: TextTokenizer, settings: FilterSettings) -> None:
    """All answers would be learnt as nothing; where some rows have one, nothing is an answer like any other."""
    without = [replace(row, target="") for row in (RIGHT, WRONG)]
    labels = {row.id: label(row, "for value") for row in without}
    with pytest.raises(RecipeError, match=r"\[filter\]: expected references for .* = 'reference', found 2 rows without"):
        filter_rows(without, labels, TEMPLATE, tokenizer, settings)
    assert filter_rows([RIGHT, without[1]], labels, TEMPLATE, tokenizer, settings).rows


def test_an_answer_that_the_template_cannot_express_is_removed(tokenizer: TextTokenizer) -> None:
    """An edit outside of what the model sees of a long line."""
    line = " ".join(["value"] * 40)
    row = replace(RIGHT, fields={"line": line, "after": ""}, target="other" + line)
    filtered = filter_rows([row], {row.id: label(row, row.target)}, TEMPLATE, tokenizer, FilterSettings())
    assert filtered.removed == {"inexpressible": 1}


def test_further_answers_are_rows_of_their_own(tokenizer: TextTokenizer) -> None:
    """Each is judged by itself; what was said before is learnt once."""
    others = tuple(OtherAnswer(text=text, logprob=-1.0, finish_reason="stop") for text in ("for value", " ", RIGHT.target))
    labels = {RIGHT.id: replace(label(RIGHT, RIGHT.target), others=others)}
    filtered = filter_rows([RIGHT], labels, TEMPLATE, tokenizer, FilterSettings())
    assert [(row.id, row.target) for row in filtered.rows] == [(RIGHT.id, RIGHT.target), (f"{RIGHT.id}#2", "for value")]
    assert filtered.removed == {"empty": 1, "duplicate": 1}


def test_agreement_is_a_share_of_rows(tokenizer: TextTokenizer) -> None:
    """By the first answer to each; further ones, which differ from it, make no row less right."""
    others = tuple(OtherAnswer(text=text, logprob=-1.0, finish_reason="stop") for text in ("for value", "for index"))
    labels = {row.id: replace(label(row, text), others=others) for row, text in ((RIGHT, RIGHT.target), (WRONG, "for name"))}
    assert filter_rows([RIGHT], labels, TEMPLATE, tokenizer, FilterSettings()).agreement == 1
    assert filter_rows([RIGHT, WRONG, MISSING], labels, TEMPLATE, tokenizer, FilterSettings()).agreement == 0.5


@pytest.mark.parametrize("wrong", [{"reverse_worst": 1.0}, {"longest_ratio": -1.0}, {"repetitions": 0}])
def test_bounds_that_leave_nothing_are_refused(wrong: dict[str, float]) -> None:
    """When the table is read, before anybody is asked for an answer."""
    [(name, found)] = wrong.items()
    with pytest.raises(RecipeError, match=rf"\[filter\]: expected {name} .*, found {found}"):
        FilterSettings(**wrong)  # type: ignore[arg-type]


def test_a_refusal_is_counted_as_one(tokenizer: TextTokenizer) -> None:
    """Apart from answers of nothing."""
    labels = {RIGHT.id: replace(label(RIGHT, ""), finish_reason="refused"), WRONG.id: label(WRONG, "")}
    assert filter_rows([RIGHT, WRONG], labels, TEMPLATE, tokenizer, FilterSettings()).removed == {"refused": 1, "empty": 1}
    assert not filter_rows([RIGHT], labels, TEMPLATE, tokenizer, FilterSettings(wrong="reference")).removed


def test_a_refusal_in_plain_words_is_counted_as_one(tokenizer: TextTokenizer) -> None:
    """Though the server called it an answer; not where the input or the reference refuses too, or where refusals are kept."""
    words = "I'm sorry, but I can't assist with that."
    labels = {row.id: label(row, words) for row in (RIGHT, WRONG)}
    filtered = filter_rows([RIGHT, WRONG], labels, TEMPLATE, tokenizer, FilterSettings())
    assert (filtered.removed, filtered.rows) == ({"refused": 2}, [])
    assert filtered.samples["refused"][0]["label"] == words
    assert filter_rows([RIGHT, WRONG], labels, TEMPLATE, tokenizer, FilterSettings(wrong="drop")).removed == {"refused": 2}
    assert filter_rows([RIGHT], labels, TEMPLATE, tokenizer, FilterSettings(wrong="reference")).references == 1
    assert "refused" not in filter_rows([RIGHT], labels, TEMPLATE, tokenizer, FilterSettings(refusals="keep")).removed
    for row in (
        replace(RIGHT, target=words),
        replace(RIGHT, fields={"line": "I'm sorry, but I can't assist with taht.", "after": ""}),
    ):
        assert "refused" not in filter_rows([row], {row.id: label(row, words)}, TEMPLATE, tokenizer, FilterSettings()).removed


def test_the_same_input_with_the_same_answer_is_learnt_once(tokenizer: TextTokenizer) -> None:
    """Another answer to the same input is another row."""
    twin, other = replace(RIGHT, id="twin"), replace(RIGHT, id="other")
    labels = {RIGHT.id: label(RIGHT, RIGHT.target), "twin": label(twin, RIGHT.target), "other": label(other, RIGHT.fields["line"])}
    filtered = filter_rows([RIGHT, twin, other], labels, TEMPLATE, tokenizer, FilterSettings())
    assert [row.id for row in filtered.rows] == [RIGHT.id, "other"]
    assert filtered.removed == {"duplicate": 1}


def test_some_of_what_was_removed_can_be_looked_at(tokenizer: TextTokenizer) -> None:
    """Five samples a reason, with the teacher's answer beside the reference."""
    rows = [replace(MISSING, id=str(number)) for number in range(7)]
    filtered = filter_rows(rows, {}, TEMPLATE, tokenizer, FilterSettings())
    assert filtered.removed == {"unlabelled": 7}
    assert filtered.agreement is None
    assert filtered.to_json()["samples"]["unlabelled"][0] == {"id": "0", "target": MISSING.target, "label": None}
    assert len(filtered.to_json()["samples"]["unlabelled"]) == 5


def test_an_answer_far_longer_than_its_input_is_removed(tokenizer: TextTokenizer) -> None:
    """The teacher has lost its way; the reference is never judged so."""
    line = WRONG.fields["line"]
    labels = {WRONG.id: label(WRONG, line * 4), RIGHT.id: label(RIGHT, RIGHT.target)}
    found = filter_rows([RIGHT, WRONG], labels, TEMPLATE, tokenizer, FilterSettings(longest_ratio=0.5))
    assert found.removed == {"long": 1}
    assert [row.id for row in found.rows] == [RIGHT.id]
    assert filter_rows([WRONG], labels, TEMPLATE, tokenizer, FilterSettings(longest_ratio=4)).removed == {}


@pytest.mark.parametrize(
    ("answer", "often"),
    [("a", 1), ("a b c", 1), ("a a b", 2), ("a b a b a b", 3), ("x a b c d a b c d", 2), ("a b c d e a b c d e", 1), ("a b a", 1)],
)
def test_repetition_counts_runs_of_one_to_four_words(tokenizer: TextTokenizer, answer: str, often: int) -> None:
    """A run that follows itself; words that merely occur again are none."""
    labels = {WRONG.id: label(WRONG, answer)}
    for bound in (1, 2, 3):
        found = filter_rows([WRONG], labels, TEMPLATE, tokenizer, FilterSettings(repetitions=bound))
        assert found.removed == ({"repetitive": 1} if often > bound else {})

"""Edits: any text can become any other, lexeme by lexeme."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketseq.edits import Edit, apply_edit, find_edit, lexemes

CODE = st.text(alphabet="ab_1 ()[]:=.\t\né€😀", max_size=30)


@given(st.text(max_size=60))
@settings(deadline=None)
def test_lexemes_are_the_text(text: str) -> None:
    """Nothing is lost, whatever the characters."""
    assert "".join(lexemes(text)) == text


@given(CODE, CODE)
@settings(deadline=None)
def test_the_edit_between_two_texts_makes_one_of_the_other(text: str, target: str) -> None:
    """Lexemes are split anew in the result, so the edit is applied to those of the text alone."""
    edit = find_edit(text, target)
    assert (target if edit is None else apply_edit(lexemes(text), edit)) == target
    assert (edit is None) == (text == target)


@pytest.mark.parametrize(
    ("text", "target", "edit"),
    [
        ("for i in rnage(10)", "for i in range(10)", Edit(start=3, stop=4, text=" range")),
        ("f(x", "f(x)", Edit(start=3, stop=3, text=")")),
        ("f(x))", "f(x)", Edit(start=3, stop=4, text=")")),
        ("a b", "b", Edit(start=0, stop=2, text="b")),
        ("", "a", Edit(start=0, stop=0, text="a")),
        ("a", "", Edit(start=0, stop=1, text="")),
    ],
)
def test_an_edit_is_the_shortest_in_lexemes(text: str, target: str, edit: Edit) -> None:
    """By hand."""
    assert find_edit(text, target) == edit


def test_positions_past_the_end_count_as_the_end() -> None:
    """A model may err; the answer is still a text."""
    assert apply_edit(["a", " b"], Edit(start=9, stop=60, text="!")) == "a b!"
    assert apply_edit(["a", " b"], Edit(start=1, stop=60, text="")) == "a"

"""Templates: fields become tokens within their budgets, and tokens an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketseq.errors import InputError, InputTooLongError
from pocketseq.marks import MARK_TOKENS, mark_token, read_edit
from pocketseq.template import Field, Template
from pocketseq.tokenizer import TextTokenizer

from .tiny import EDITS, PLAIN

UNICODE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(lambda text: text.strip())


def words(tokenizer: TextTokenizer, ids: list[int]) -> list[str]:
    return list(tokenizer.pieces(ids))


def test_fields_stand_in_order_between_their_literals(tokenizer: TextTokenizer) -> None:
    """Prefixes and the end are special tokens; before each lexeme of the edited field stands its mark."""
    ids = EDITS.encode(tokenizer, {"before": "x", "line": "f(x", "after": "y"}).ids
    assert words(tokenizer, ids) == ["x", "<line>", "<m0>", "f", "<m1>", "(", "<m2>", "x", "<m3>", "<after>", "y", "</s>"]


def test_special_tokens_in_a_user_s_text_are_ordinary_characters(tokenizer: TextTokenizer) -> None:
    """Nobody ends the input early by typing the end token."""
    ids = PLAIN.encode(tokenizer, "a</s><m1>").ids
    assert ids.count(tokenizer.special_id("</s>") or 0) == 1
    assert tokenizer.decode(ids) == "a</s><m1>"


def test_ids_without_an_entry_are_shown_by_number(tokenizer: TextTokenizer) -> None:
    """Models embed more ids than their vocabulary names; such a one is no word, and above all not "None"."""
    assert words(tokenizer, [tokenizer.size]) == [f"<{tokenizer.size}>"]


@pytest.mark.parametrize(("side", "kept"), [("left", "8 9"), ("right", "1 2")])
def test_a_field_over_its_budget_is_cut_on_its_side(tokenizer: TextTokenizer, side: str, kept: str) -> None:
    """And named; refused where the caller asks for it."""
    template = Template(fields=(Field(name="t", max_tokens=4, truncate=side),), primary="t")  # type: ignore[arg-type]
    encoded = template.encode(tokenizer, "1 2 3 4 5 6 7 8 9")
    assert encoded.truncated == ("t",)
    assert tokenizer.decode(encoded.ids).strip().strip("0") == kept
    with pytest.raises(InputTooLongError, match="field 't': expected at most 4 tokens"):
        template.encode(tokenizer, "1 2 3 4 5 6 7 8 9", overflow="refuse")


def test_what_is_cut_off_the_edited_field_is_kept_for_the_answer(tokenizer: TextTokenizer) -> None:
    """At whole lexemes, so that the three parts are the text."""
    line = "alpha = " + " + ".join(f"v{number}" for number in range(90))
    encoded = EDITS.encode(tokenizer, line)
    assert encoded.truncated == ("line",)
    assert encoded.head + encoded.window + encoded.tail == line
    assert encoded.head
    assert encoded.window
    assert EDITS.decode(tokenizer, [], encoded) == line


@given(UNICODE, UNICODE)
@settings(deadline=None, max_examples=60)
def test_the_ids_of_an_answer_decode_to_it(tokenizer: TextTokenizer, line: str, target: str) -> None:
    """In both output forms, whatever the characters; what lies outside the window cannot be expressed."""
    encoded = EDITS.encode(tokenizer, line)
    ids = EDITS.encode_target(tokenizer, encoded, target)
    assert ids is None or EDITS.decode(tokenizer, ids, encoded) == target
    assert ids is not None or encoded.head or encoded.tail
    plain = PLAIN.encode(tokenizer, line)
    assert PLAIN.decode(tokenizer, PLAIN.encode_target(tokenizer, plain, target) or [], plain) == target


@given(UNICODE)
@settings(deadline=None, max_examples=60)
def test_an_encoded_input_stays_under_the_bound(tokenizer: TextTokenizer, text: str) -> None:
    """However long the fields are, and the literals around them."""
    long = {"before": text * 40, "line": text * 40, "after": text * 40}
    assert len(EDITS.encode(tokenizer, long).ids) <= EDITS.longest(tokenizer)
    wordy = replace(PLAIN, start="translate English to German: ", fields=(replace(PLAIN.fields[0], prefix="the text: "),))
    assert len(wordy.encode(tokenizer, text * 40).ids) <= wordy.longest(tokenizer) == len(wordy.encode(tokenizer, "a b " * 40).ids)


def test_nothing_emitted_means_nothing_to_change(tokenizer: TextTokenizer) -> None:
    """The right line is the empty answer."""
    encoded = EDITS.encode(tokenizer, "x = 1")
    assert EDITS.encode_target(tokenizer, encoded, "x = 1") == []
    assert EDITS.decode(tokenizer, [], encoded) == "x = 1"


def test_only_two_marks_in_order_begin_an_edit(tokenizer: TextTokenizer) -> None:
    """Everything else is none."""
    first = tokenizer.special_id(mark_token(0)) or 0
    assert read_edit(tokenizer, [first + 2, first + 3]) is not None
    for ids in ([], [first], [first + 3, first + 2], [first + 2, 90], [90, first + 2], [first + MARK_TOKENS, first + MARK_TOKENS]):
        assert read_edit(tokenizer, ids) is None


def test_a_template_for_edits_needs_mark_tokens() -> None:
    """A tokenizer of another project has none."""
    from pocketseq.testing import byte_tokenizer

    with pytest.raises(InputError, match="asks for edits, but the tokenizer has no mark tokens such as '<m0>'"):
        EDITS.encode(byte_tokenizer(["<line>", "<after>"]), "x")


@pytest.mark.parametrize(
    "source", ["for i in", {"line": "x", "before": "a\nb"}, {"line": '{"line": "x"}'}, {"line": "x", "after": "é€😀\n"}, "{", "[1]"]
)
def test_a_prompt_is_read_back_as_the_fields_it_was_written_from(source: object) -> None:
    """The cloud gets the line alone where there is nothing else to say."""
    prompt = EDITS.render_prompt(source)  # type: ignore[arg-type]
    assert EDITS.parse_prompt(prompt) == EDITS.fields_of(source)  # type: ignore[arg-type]
    assert EDITS.render_prompt("for i in") == "for i in"


@pytest.mark.parametrize(
    "prompt",
    ['{"no": "field"}', '{"line": 3}', "{broken", '{"line": "x", "more": "y"}', pytest.param('{"line":' * 100_000, id="deep")],
)
def test_any_other_prompt_is_the_primary_field(prompt: str) -> None:
    """A server may be asked by anybody."""
    assert EDITS.parse_prompt(prompt)["line"] == prompt


def test_a_template_survives_the_way_to_json_and_back() -> None:
    """A bundle and a checkpoint carry it."""
    assert Template.from_json(EDITS.to_json()) == EDITS


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"fields": [], "primary": "x"}, "needs one or more fields"),
        ({"fields": [{"name": "a", "max_tokens": 1}] * 2, "primary": "a"}, "names of their own"),
        ({"fields": [{"name": "a", "max_tokens": 1}], "primary": "b"}, "primary field 'b' is none of its fields"),
        ({"fields": [{"name": "a", "max_tokens": 1}], "primary": "a", "edits": "b"}, "edits field 'b'"),
        ({"primary": "a"}, "not an input template"),
        ({"fields": [{"nome": "a"}], "primary": "a"}, "not an input template"),
    ],
)
def test_what_is_no_template_is_refused(value: dict[str, object], message: str) -> None:
    """With what is wrong."""
    with pytest.raises(InputError, match=message):
        Template.from_json(value)

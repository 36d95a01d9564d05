"""Distillation across tokenizers, on spans that both have."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.distill.models import MakeModel
from tests.distill.weights import loud
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pocketseq.template import Field, Template
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.corpus.vocabulary import train_tokenizer
from pocketseq_distill.losses.spans import Ends, common_ends, span_divergence, teacher_spans
from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.rows import TokenRows

END = 1
PLAIN = Template(fields=(Field(name="line", max_tokens=24),), primary="line")
EDITS = Template(fields=(Field(name="line", max_tokens=24),), primary="line", edits="line")


def tokenizer(texts: list[str], size: int, template: Template = PLAIN) -> TextTokenizer:
    return TextTokenizer(train_tokenizer(texts, vocab_size=size, template=template))


@pytest.fixture(scope="module")
def coarse() -> TextTokenizer:
    return tokenizer(["print range value return größe"] * 9, 400)


@pytest.fixture(scope="module")
def fine() -> TextTokenizer:
    return tokenizer(["print pri ran"], 264)


def test_spans_end_where_both_tokenizers_have_a_boundary(coarse: TextTokenizer, fine: TextTokenizer) -> None:
    """The text of every span is the same on both sides, and together they are the answer."""
    text = "print range value"
    ours, theirs = [*fine.text_ids(text), END], [*coarse.text_ids(text), END]
    assert len(ours) > len(theirs)
    ends = common_ends(fine, ours, coarse, theirs)
    assert ends.student[-1] == len(ours)
    assert ends.teacher[-1] == len(theirs)
    assert len(ends.student) > 2
    for own, their in zip(ends.student[:-1], ends.teacher[:-1], strict=True):
        assert fine.decode(ours[:own]) == coarse.decode(theirs[:their])


def test_half_a_character_is_no_boundary(coarse: TextTokenizer, fine: TextTokenizer) -> None:
    """Bytes of one character, which one side has apart, belong to one span."""
    ours, theirs = [*fine.text_ids("größe"), END], [*coarse.text_ids("größe"), END]
    assert len(ours) == 7 + 1
    for own in common_ends(fine, ours, coarse, theirs).student[:-1]:
        assert "\ufffd" not in fine.decode(ours[:own])


def test_the_marks_of_an_edit_are_spans_of_their_own() -> None:
    """They are special tokens, in which no text stands."""
    left, right = tokenizer(["return value"], 420, EDITS), tokenizer(["return value"] * 9 + ["other words"], 440, EDITS)
    ids = []
    for one in (left, right):
        encoded = EDITS.encode(one, {"line": "retrun value"})
        target = EDITS.encode_target(one, encoded, "return value")
        assert target is not None
        ids.append([*target, END])
    ends = common_ends(left, ids[0], right, ids[1])
    assert ends.student[:2] == ends.teacher[:2] == (1, 2)


def test_the_same_tokenizer_has_every_boundary(coarse: TextTokenizer) -> None:
    """Then every token is a span."""
    ids = [*coarse.text_ids("return value"), END]
    everything = tuple(range(1, len(ids) + 1))
    assert common_ends(coarse, ids, coarse, ids) == Ends(everything, everything)


def test_the_empty_answer_is_one_span(coarse: TextTokenizer, fine: TextTokenizer) -> None:
    """Its end."""
    assert common_ends(fine, [END], coarse, [END]) == Ends((1,), (1,))


def test_the_divergence_by_hand() -> None:
    """Two spans: of two tokens, ½·½ against ½; and of one, ¼ against ¼, which costs nothing."""
    logprobs = torch.tensor([[0.5, 0.5, 0.25, 0.0]]).log().nan_to_num(neginf=0.0)
    spans = torch.tensor([[math.nan, math.log(0.5), math.log(0.25), math.nan]])
    labels = torch.tensor([[4, 5, 1, IGNORED]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert span_divergence(logprobs, spans, labels).item() == pytest.approx(expected, rel=1e-5)


def test_rows_are_apart_and_gradients_are_numbers() -> None:
    """A row's first span begins with the row; certainty on either side stays finite; no spans cost nothing."""
    logprobs = torch.tensor([[-0.1, -0.2], [-0.3, 0.0]]).requires_grad_()
    labels = torch.tensor([[4, 1], [4, 1]])
    spans = torch.tensor([[math.nan, -0.3], [math.nan, -0.3]])
    loss = span_divergence(logprobs, spans, labels)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient.isfinite().all()
    assert span_divergence(logprobs, torch.full((2, 2), math.nan), labels).item() == 0


def test_a_teachers_spans_are_the_products_of_its_tokens(make_model: MakeModel) -> None:
    """Against its own logits, one row at a time, whatever the batch."""
    teacher = loud(make_model()).eval()
    rows = TokenRows.of([[3, 4, 5], [6, 7]], [[9, 10, 11, 1], [8, 1]])
    theirs = TokenRows.of([[5, 4], [6, 7, 8]], [[20, 21, 1], [22, 23, 24, 1]])
    ends = [Ends((1, 3, 4), (1, 2, 3)), Ends((1, 2), (3, 4))]
    found = teacher_spans(rows, teacher, theirs, ends, bf16=False)
    expected = np.full(6, np.nan)
    for row, (begin, places) in enumerate(zip((0, 4), ends, strict=True)):
        labels = torch.tensor(theirs[row]["labels"])[None].long()
        logits = teacher(input_ids=torch.tensor(theirs[row]["input_ids"])[None].long(), labels=labels).logits
        tokens = logits[0].log_softmax(-1).gather(-1, labels[0][:, None])[:, 0]
        start = 0
        for own, their in zip(places.student, places.teacher, strict=True):
            expected[begin + own - 1] = tokens[start:their].sum().item()
            start = their
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_tokenizer_that_swallows_spaces_keeps_the_boundaries_that_it_has() -> None:
    """A word-level vocabulary, whose decoder puts the spaces between: ends still rise on both sides."""
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "print": 2, "range": 3, "[UNK]": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.decoder = decoders.WordPiece(prefix="##")
    other = tokenizer(["print range"] * 5, 300)
    ids = [[*one.text_ids("print range"), END] for one in (TextTokenizer(words), other)]
    ends = common_ends(TextTokenizer(words), ids[0], other, ids[1])
    assert ends.student == (1, 2, 3)
    assert list(ends.teacher) == sorted(set(ends.teacher))


def test_what_a_teacher_is_made_to_say_is_part_of_no_span(make_model: MakeModel) -> None:
    """It stands in every prefix, and its own probability counts for nothing."""
    teacher = loud(make_model()).eval()
    rows, theirs = TokenRows.of([[3, 4]], [[9, 10, 1]]), TokenRows.of([[5, 4]], [[30, 20, 21, 1]])
    found = teacher_spans(rows, teacher, theirs, [Ends((1, 3), (1, 3))], given=1, bf16=False)
    labels = torch.tensor(theirs[0]["labels"])[None].long()
    logits = teacher(input_ids=torch.tensor([[5, 4]]), labels=labels).logits
    tokens = logits[0].log_softmax(-1).gather(-1, labels[0][:, None])[:, 0].tolist()
    np.testing.assert_allclose(found, [tokens[1], np.nan, tokens[2] + tokens[3]], rtol=1e-4)

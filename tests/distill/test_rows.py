"""Rows are tokenised once; what cannot become a row is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pocketseq.errors import DataError
from pocketseq_distill.rows import Distributions, TokenRows, tokenize
from pocketseq_distill.tokenizer import read_tokenizer

from .models import TEMPLATE, repair_examples


def test_rows_come_back_as_they_went_in() -> None:
    """Flat arrays hold sequences of any length, empty ones included."""
    rows = TokenRows.of([[3, 4, 5], [6], []], [[1], [7, 1], [8, 9, 1]])
    assert len(rows) == 3
    assert [row["input_ids"].tolist() for row in (rows[0], rows[1], rows[2])] == [[3, 4, 5], [6], []]
    assert [row["labels"].tolist() for row in (rows[0], rows[1], rows[2])] == [[1], [7, 1], [8, 9, 1]]


def test_some_rows_are_taken_with_all_that_belongs_to_them() -> None:
    """In the order asked for, as often as asked for; a loader of PyTorch's gets its batches so."""
    tops = Distributions(np.arange(12, dtype=np.uint16).reshape(6, 2), np.arange(12, dtype=np.float16).reshape(6, 2))
    rows = replace(TokenRows.of([[3, 4, 5], [6], []], [[1], [7, 1], [8, 9, 1]]), distributions=tops, spans=np.arange(6.0))
    taken = rows.take([2, 0, 2])
    assert [taken[row]["input_ids"].tolist() for row in range(3)] == [[], [3, 4, 5], []]
    assert [taken[row]["labels"].tolist() for row in range(3)] == [[8, 9, 1], [1], [8, 9, 1]]
    assert taken.distributions is not None
    assert taken.distributions.ids[:, 0].tolist() == [6, 8, 10, 0, 6, 8, 10]
    assert taken.distributions.logprobs[:, 1].tolist() == [7, 9, 11, 1, 7, 9, 11]
    assert taken.spans is not None
    assert taken.spans.tolist() == [3, 4, 5, 0, 3, 4, 5]
    batch = next(iter(DataLoader(rows, batch_size=2, collate_fn=lambda batch: batch)))
    assert isinstance(batch, TokenRows)
    assert batch.fingerprint == rows.take([0, 1]).fingerprint
    assert len(rows.take([])) == 0


def test_the_extent_of_a_row_is_its_longer_side_and_then_both() -> None:
    """So that sorting puts side by side what leaves little to pad in inputs and in answers."""
    rows = TokenRows.of([[3] * 5, [3], [3] * 4, [3] * 5], [[1], [1] * 6, [1] * 4, [1] * 2])
    assert np.argsort(rows.extents).tolist() == [2, 0, 3, 1]


def test_every_source_needs_its_labels() -> None:
    """Two lists of different length name both counts."""
    with pytest.raises(DataError, match="expected as many label sequences as sources, found 1 and 2"):
        TokenRows.of([[3], [4]], [[1]])


def test_the_fingerprint_sees_every_token_and_every_border() -> None:
    """The same tokens cut otherwise are other rows."""
    one = TokenRows.of([[3, 4], [5]], [[1], [1]])
    assert one.fingerprint == TokenRows.of([[3, 4], [5]], [[1], [1]]).fingerprint
    assert one.fingerprint != TokenRows.of([[3], [4, 5]], [[1], [1]]).fingerprint
    assert one.fingerprint != TokenRows.of([[3, 4], [6]], [[1], [1]]).fingerprint


def test_examples_become_what_the_template_says(teacher_path: Path) -> None:
    """Inputs are the template's encoding, labels its target with the end token; a right line is the end token alone."""
    tokenizer = read_tokenizer(teacher_path, TEMPLATE)
    examples = repair_examples(8)
    tokenized = tokenize(examples, TEMPLATE, tokenizer, end_id=1, max_target_tokens=16)
    assert tokenized.counts == {"inexpressible": 0, "too_long": 0, "cut": 0}
    for index, example in enumerate(examples):
        encoded = TEMPLATE.encode(tokenizer, example.fields)
        row = tokenized.rows[index]
        assert row["input_ids"].tolist() == encoded.ids
        assert row["labels"][-1] == 1
        assert TEMPLATE.decode(tokenizer, row["labels"][:-1].tolist(), encoded) == example.target
    assert tokenized.rows[3]["labels"].tolist() == [1]


def test_targets_that_do_not_fit_are_left_out_and_counted(teacher_path: Path) -> None:
    """Over the budget, or outside of what the model sees of a long line."""
    tokenizer = read_tokenizer(teacher_path, TEMPLATE)
    short, outside = repair_examples(2)
    line = " ".join(["value"] * 40)
    outside = replace(outside, fields={"line": line, "after": ""}, target="other" + line)
    tokenized = tokenize([short, outside], TEMPLATE, tokenizer, end_id=1, max_target_tokens=16)
    assert (len(tokenized.rows), tokenized.inexpressible, tokenized.too_long) == (1, 1, 0)
    tokenized = tokenize([short], TEMPLATE, tokenizer, end_id=1, max_target_tokens=2)
    assert (len(tokenized.rows), tokenized.inexpressible, tokenized.too_long) == (0, 0, 1)


def test_inputs_that_are_cut_are_counted(teacher_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their primary field; how much of what stands around it a model sees is the template's to say."""
    tokenizer = read_tokenizer(teacher_path, TEMPLATE)
    long = " ".join(["value"] * 40)
    short, cut, beside = repair_examples(3)
    rows = [
        short,
        replace(cut, fields={"line": long, "after": ""}, target=long),
        replace(beside, fields={**beside.fields, "after": long}),
    ]
    tokenized = tokenize(rows, TEMPLATE, tokenizer, end_id=1, max_target_tokens=16)
    assert tokenized.counts == {"inexpressible": 0, "too_long": 0, "cut": 1}
    tokenized.tell()
    assert capsys.readouterr().err == "cut to what the template allows: the inputs of 1 of 3 rows\n"


def test_what_a_model_is_made_to_say_stands_before_every_label(teacher_path: Path) -> None:
    """And takes its place in the budget, as it does when the model answers."""
    tokenizer = read_tokenizer(teacher_path, TEMPLATE)
    examples = repair_examples(8)
    plain = tokenize(examples, TEMPLATE, tokenizer, end_id=1, max_target_tokens=16).rows
    made = tokenize(examples, TEMPLATE, tokenizer, end_id=1, max_target_tokens=16, given=[7]).rows
    for index in range(len(plain)):
        assert made[index]["labels"].tolist() == [7, *plain[index]["labels"].tolist()]
    longest = max(len(plain[index]["labels"]) for index in range(len(plain)))
    assert tokenize(examples, TEMPLATE, tokenizer, end_id=1, max_target_tokens=longest).too_long == 0
    assert tokenize(examples, TEMPLATE, tokenizer, end_id=1, max_target_tokens=longest, given=[7]).too_long > 0

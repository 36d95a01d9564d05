"""Rows as a model trains on them: tokenised once, kept in four flat arrays, read without any work in the loop."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from pocketseq.errors import DataError, TrainingError
from pocketseq.examples import Example
from pocketseq.template import Template
from pocketseq.tokenizer import TextTokenizer

Ids = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]


class Row(TypedDict):
    """One row, to look at."""

    input_ids: Ids
    """int32 [source]: what the encoder reads."""
    labels: Ids
    """int32 [target]: what the decoder should emit, end token included."""


@dataclass(frozen=True, slots=True)
class Distributions:
    """A teacher's likeliest tokens at every label of some rows, in the order of ``TokenRows.label_ids`` (see ``distributions``)."""

    ids: npt.NDArray[Any]
    """uint16 or int32 [all label tokens, k]: the tokens, likeliest first."""
    logprobs: npt.NDArray[np.float16]
    """float16 [all label tokens, k]: their log-probabilities in the whole vocabulary."""

    def take(self, places: Offsets) -> Distributions:
        """What is said at some of the labels."""
        return Distributions(self.ids[places], self.logprobs[places])


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Tokenised rows; a map-style data set."""

    source_ids: Ids
    """int32 [all source tokens]: the rows' inputs, one after the other."""
    source_offsets: Offsets
    """int64 [rows + 1]: where each row's input begins."""
    label_ids: Ids
    """int32 [all target tokens]: the rows' labels, one after the other."""
    label_offsets: Offsets
    """int64 [rows + 1]: where each row's labels begin."""
    distributions: Distributions | None = None
    """What the teacher says at every label, computed beforehand; None where it is asked as the batches come, or not at all."""
    spans: npt.NDArray[np.float32] | None = None
    """float32 [all target tokens]: what a teacher of another tokenizer says of spans, at the last token of each; NaN elsewhere."""

    @classmethod
    def of(cls, sources: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> TokenRows:
        """Pack sequences of token ids.

        Raises:
            DataError: not as many sources as labels.
        """
        if len(sources) != len(labels):
            raise DataError(f"expected as many label sequences as sources, found {len(labels)} and {len(sources)}")
        return cls(*_packed(sources), *_packed(labels))

    def __len__(self) -> int:
        return len(self.source_offsets) - 1

    def __getitem__(self, index: int) -> Row:
        begin, end = self.source_offsets[index : index + 2]
        label_begin, label_end = self.label_offsets[index : index + 2]
        return {"input_ids": self.source_ids[begin:end], "labels": self.label_ids[label_begin:label_end]}

    def take(self, rows: Sequence[int]) -> TokenRows:
        """Some of the rows, in the order given."""
        chosen = np.asarray(rows, dtype=np.int64)
        sources, source_offsets = _places(self.source_offsets, chosen)
        labels, label_offsets = _places(self.label_offsets, chosen)
        return TokenRows(
            self.source_ids[sources],
            source_offsets,
            self.label_ids[labels],
            label_offsets,
            None if self.distributions is None else self.distributions.take(labels),
            None if self.spans is None else self.spans[labels],
        )

    __getitems__ = take
    """Name under which PyTorch's loader asks for all rows of a batch at once."""

    @property
    def extents(self) -> Offsets:
        """int64 [rows]: by what batches are grouped, the longer of a row's sides, and between equal ones both sides together.

        Rows that are near by it leave little to pad on either side; by the sum alone a short input goes with a long answer.
        """
        sources, labels = np.diff(self.source_offsets), np.diff(self.label_offsets)
        return (np.maximum(sources, labels) << 32) + sources + labels

    @property
    def fingerprint(self) -> str:
        """Digest of every token of every row."""
        digest = hashlib.sha256()
        for array in (self.source_ids, self.source_offsets, self.label_ids, self.label_offsets):
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Rows with what could not become one."""

    rows: TokenRows
    """The rows, in the order of the examples."""
    inexpressible: int
    """Examples left out since their target is no edit of what the model sees."""
    too_long: int
    """Examples left out since their target is over the budget."""
    places: tuple[int, ...]
    """Which example each row is."""
    cut: int
    """Rows whose primary field is longer than its budget, so that the model sees a part of it."""

    @property
    def counts(self) -> dict[str, int]:
        """Examples left out, by reason, and rows whose input is cut."""
        return {"inexpressible": self.inexpressible, "too_long": self.too_long, "cut": self.cut}

    def tell(self) -> None:
        """Say on standard error how many examples are not trained on, and why, or not wholly; nothing where all are."""
        why = {
            "whose answers cannot be written in the output form": self.inexpressible,
            "whose answers are too long": self.too_long,
        }
        if told := " and ".join(f"{count} rows {words}" for words, count in why.items() if count):
            print(f"left out of training: {told}; {len(self.rows)} rows are left", file=sys.stderr)
        if self.cut:
            print(f"cut to what the template allows: the inputs of {self.cut} of {len(self.rows)} rows", file=sys.stderr)


def tokenize(
    examples: Iterable[Example],
    template: Template,
    tokenizer: TextTokenizer,
    *,
    end_id: int,
    max_target_tokens: int,
    given: Sequence[int] = (),
) -> Tokenized:
    """Turn examples into rows.

    Args:
        examples: The rows; ``target`` is what the model should answer.
        template: How fields become tokens.
        tokenizer: The checkpoint's tokenizer.
        end_id: Token that ends an answer.
        max_target_tokens: Longest target that is kept, end token and what is given included.
        given: What the model is made to say first (see ``SpecialIds.given``); it stands before every target, so that labels are
            learnt at the prefixes at which the model is asked for them.
    """
    sources: list[list[int]] = []
    labels: list[list[int]] = []
    places: list[int] = []
    inexpressible = too_long = cut = 0
    for place, example in enumerate(examples):
        encoded = template.encode(tokenizer, example.fields)
        target = template.encode_target(tokenizer, encoded, example.target)
        if target is None:
            inexpressible += 1
        elif len(given) + len(target) >= max_target_tokens:
            too_long += 1
        else:
            sources.append(encoded.ids)
            labels.append([*given, *target, end_id])
            places.append(place)
            cut += template.primary in encoded.truncated
    return Tokenized(TokenRows.of(sources, labels), inexpressible, too_long, tuple(places), cut)


def _packed(sequences: Sequence[Sequence[int]]) -> tuple[Ids, Offsets]:
    offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
    ids = np.empty(int(offsets[-1]), dtype=np.int32)
    for index, sequence in enumerate(sequences):
        ids[offsets[index] : offsets[index + 1]] = sequence
    return ids, offsets


def require_rows(rows: TokenRows) -> None:
    """Refuse to train on nothing.

    Raises:
        TrainingError: there are no rows.
    """
    if len(rows) == 0:
        raise TrainingError("expected rows to train on, found none; look at the counts of what was left out")


def _places(offsets: Offsets, rows: Offsets) -> tuple[Offsets, Offsets]:
    """Where the tokens of some rows lie, int64 [their tokens], and where each of these rows begins among them."""
    begins = np.zeros(len(rows) + 1, dtype=np.int64)
    lengths = offsets[rows + 1] - offsets[rows]
    np.cumsum(lengths, out=begins[1:])
    return np.repeat(offsets[rows] - begins[:-1], lengths) + np.arange(begins[-1]), begins

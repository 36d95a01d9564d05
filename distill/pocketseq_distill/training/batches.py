"""Batches: rows of like extent together in an order that seed and epoch fix, padded as little as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedModel

from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.rows import Offsets, TokenRows
from pocketseq_distill.special_ids import SpecialIds

_POOL_UPDATES: Final = 50
"""Updates whose rows are sorted by extent together: more pads less, fewer mixes better."""
_ACCELERATOR_MULTIPLE: Final = 8
"""Both sides are padded to multiples of this on an accelerator: its attention wants masks aligned, and of few shapes each comes
often enough to be recorded (see ``graphs``)."""


class GroupedOrder(Sampler[int]):
    """Shuffles rows so that those of one update are of like extent.

    The order is a pure function of seed and epoch: a run that was killed in the middle of an epoch finds its place again.
    """

    def __init__(self, extents: npt.NDArray[np.int64], *, update_rows: int, seed: int, whole: bool = False) -> None:
        """Order rows.

        Args:
            extents: int64 [rows]: see ``TokenRows.extents``.
            update_rows: Rows that make up one update: batch × accumulation × processes.
            seed: Seed of the shuffling.
            whole: Leave out of an epoch the rows that fill no update: several processes could only share them unevenly. Which
                these are differs from epoch to epoch.
        """
        self._extents = extents
        self._update_rows = update_rows
        self._seed = seed
        self._epoch = 0
        # Fewer rows than one update takes are better than none.
        self._left_over = len(extents) % update_rows if whole and len(extents) >= update_rows else 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._extents) - self._left_over

    @property
    def updates(self) -> int:
        """Updates of an epoch."""
        return -(-len(self) // self._update_rows)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self._epoch))
        shuffled = random.permutation(len(self._extents))
        whole = len(shuffled) - len(shuffled) % self._update_rows
        pool = self._update_rows * _POOL_UPDATES
        updates: list[npt.NDArray[np.int64]] = []
        for begin in range(0, whole, pool):
            rows = shuffled[begin : min(begin + pool, whole)]
            rows = rows[np.argsort(-self._extents[rows], kind="stable")]
            updates += np.split(rows, len(rows) // self._update_rows)
        for index in random.permutation(len(updates)):
            yield from updates[index].tolist()
        if not self._left_over:
            yield from shuffled[whole:].tolist()


@dataclass(frozen=True, slots=True)
class Collate:
    """Pads rows into the tensors that a model takes."""

    pad_id: int
    """Token that fills up a source."""
    shift: Callable[[Tensor], Tensor]
    """Labels int64 [batch, step] → decoder inputs int64 [batch, step]; to the right, behind the start token."""
    multiple: int = 1
    """Both sides are padded to multiples of this, long ones to larger ones."""

    @classmethod
    def of(cls, model: PreTrainedModel, *, device: torch.device | None = None) -> Collate:
        """Batches for a model.

        Args:
            model: An encoder-decoder.
            device: Where it will run; where it is if not given.
        """
        special = SpecialIds.of(model)
        on_cpu = (device or model.device).type == "cpu"
        return cls(
            pad_id=special.pad,
            shift=partial(_shifted, start=special.start, pad=special.pad),
            multiple=1 if on_cpu else _ACCELERATOR_MULTIPLE,
        )

    def __call__(self, rows: TokenRows) -> dict[str, Tensor]:
        """Make a batch of all the rows.

        Returns:
            ``input_ids``, ``attention_mask`` int64 [batch, source]; ``labels``, ``decoder_input_ids`` int64 [batch, step]; where
            the rows carry a teacher's distributions also ``top_ids`` int64 and ``top_logprobs`` float32 [batch, step, k];
            where they carry its spans, ``spans`` float32 [batch, step], NaN but at a span's last token.
        """
        sources, targets = (_Padding.of(offsets, self.multiple) for offsets in (rows.source_offsets, rows.label_offsets))
        labels = targets.fill(rows.label_ids, IGNORED, np.int64)
        batch = {
            "input_ids": sources.fill(rows.source_ids, self.pad_id, np.int64),
            "attention_mask": torch.from_numpy(sources.held.astype(np.int64)),
            "labels": labels,
            "decoder_input_ids": self.shift(labels),
        }
        if rows.distributions is not None:
            batch["top_ids"] = targets.fill(rows.distributions.ids, 0, np.int64)
            batch["top_logprobs"] = targets.fill(rows.distributions.logprobs, 0, np.float32)
        if rows.spans is not None:
            batch["spans"] = targets.fill(rows.spans, np.nan, np.float32)
        return batch


def _shifted(labels: Tensor, *, start: int, pad: int) -> Tensor:
    """What a decoder reads to say labels int64 [batch, step].

    The families' own shifts look for the ids in ``config.json`` alone, and mBART's takes a row's last label for its start.
    """
    shifted = torch.cat((labels.new_full((len(labels), 1), start), labels[:, :-1]), dim=1)
    return shifted.masked_fill(shifted == IGNORED, pad)


@dataclass(frozen=True, slots=True)
class _Padding:
    """Where the tokens of one side of some rows stand in a batch."""

    held: npt.NDArray[np.bool_]
    """[rows, width]: whether a token of the row stands there."""

    @classmethod
    def of(cls, offsets: Offsets, multiple: int) -> _Padding:
        """Pad rows that begin at some offsets to the width that holds the longest of them (see ``rounded``)."""
        lengths = np.diff(offsets)
        return cls(np.arange(rounded(int(lengths.max()), multiple)) < lengths[:, None])

    def fill(self, values: npt.NDArray[Any], padding: float, dtype: type[np.generic]) -> Tensor:
        """Values [all tokens of the rows, ...] → [rows, width, ...]."""
        filled = np.full((*self.held.shape, *values.shape[1:]), padding, dtype=dtype)
        filled[self.held] = values
        return torch.from_numpy(filled)


def parts_of(batch: dict[str, Tensor], tokens: int) -> list[dict[str, Tensor]]:
    """Cut a batch between rows, so that each part's longer side holds at most so many tokens, or one row.

    Args:
        batch: As ``Collate`` makes it.
        tokens: Padded tokens of a part.
    """
    rows, width = len(batch["labels"]), max(batch["input_ids"].size(1), batch["labels"].size(1))
    size = max(1, tokens // width)
    return [{name: tensor[begin : begin + size] for name, tensor in batch.items()} for begin in range(0, rows, size)]


def rounded(length: int, multiple: int) -> int:
    """The multiple that holds a length; above eight of them it is one of a number twice as large, and so on with every doubling.

    Of lengths above four multiples less than a quarter is padded, and where the multiple is eight those up to 512 come to twenty
    widths.
    """
    while multiple > 1 and length > 8 * multiple:
        multiple *= 2
    return -(-length // multiple) * multiple

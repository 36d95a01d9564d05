"""Batches: rows of like extent together in an order that seed and epoch fix, padded as little as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedModel

from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.rows import Ids, Row

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
    """Labels int64 [batch, step] → decoder inputs int64 [batch, step]; the model family's own shift to the right."""
    multiple: int = 1
    """Both sides are padded to multiples of this, long ones to larger ones."""

    @classmethod
    def of(cls, model: PreTrainedModel, *, device: torch.device | None = None) -> Collate:
        """Batches for a model.

        Args:
            model: An encoder-decoder.
            device: Where it will run; where it is if not given.
        """
        on_cpu = (device or model.device).type == "cpu"
        return cls(
            pad_id=model.config.pad_token_id,
            shift=model.prepare_decoder_input_ids_from_labels,
            multiple=1 if on_cpu else _ACCELERATOR_MULTIPLE,
        )

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Make a batch.

        Returns:
            ``input_ids``, ``attention_mask`` int64 [batch, source]; ``labels``, ``decoder_input_ids`` int64 [batch, step]; where
            the rows carry a teacher's distributions also ``top_ids`` int64 and ``top_logprobs`` float32 [batch, step, k];
            where they carry its spans, ``spans`` float32 [batch, step], NaN but at a span's last token.
        """
        input_ids, attention_mask = pad_sources([row["input_ids"] for row in rows], pad_id=self.pad_id, multiple=self.multiple)
        targets = [row["labels"] for row in rows]
        width = rounded(max(map(len, targets)), self.multiple)
        padded = np.full((len(targets), width), IGNORED, dtype=np.int64)
        for index, target in enumerate(targets):
            padded[index, : len(target)] = target
        labels = torch.from_numpy(padded)
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            "decoder_input_ids": self.shift(labels),
        }
        if "top_ids" in rows[0]:
            batch["top_ids"] = _stacked([row["top_ids"] for row in rows], width, np.int64)
            batch["top_logprobs"] = _stacked([row["top_logprobs"] for row in rows], width, np.float32)
        if "spans" in rows[0]:
            spans = np.full(padded.shape, np.nan, dtype=np.float32)
            for index, row in enumerate(rows):
                spans[index, : len(row["spans"])] = row["spans"]
            batch["spans"] = torch.from_numpy(spans)
        return batch


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


def pad_sources(sources: Sequence[Ids], *, pad_id: int, multiple: int) -> tuple[Tensor, Tensor]:
    """Pad inputs on the right (see ``rounded``).

    Returns:
        ``input_ids`` and ``attention_mask``, int64 [batch, source].
    """
    width = rounded(max(map(len, sources)), multiple)
    ids = np.full((len(sources), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(sources), width), dtype=np.int64)
    for index, source in enumerate(sources):
        ids[index, : len(source)] = source
        mask[index, : len(source)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _stacked(parts: Sequence[npt.NDArray[Any]], width: int, dtype: type[np.generic]) -> Tensor:
    """Arrays [step, k] → [batch, width, k], zeros behind the shorter ones."""
    stacked = np.zeros((len(parts), width, parts[0].shape[1]), dtype=dtype)
    for index, part in enumerate(parts):
        stacked[index, : len(part)] = part
    return torch.from_numpy(stacked)

"""Distributions: what a teacher says at every labelled position, cut to its likeliest tokens, computed once and kept in shards.

A training then costs the student's own passes, however often it goes through its rows and however large the teacher is. A kill
costs one shard at most; a shard that is missing, damaged, of other rows, of another teacher or of another precision is found by
what it claims and made anew, alone.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import PreTrainedModel

from pocketseq.errors import LabellingError, RecipeError
from pocketseq_distill.losses.heads import likeliest, unspoken
from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.memory import memory_for
from pocketseq_distill.precision import has_bf16, products
from pocketseq_distill.rows import Distributions, TokenRows
from pocketseq_distill.training.batches import Collate, rounded
from pocketseq_distill.training.kernels import fewer_passes
from pocketseq_distill.training.processes import share_of, wait_for_all

_SHARD_ROWS: Final = 4096
_BATCH_TOKENS: Final = 1 << 11
"""Padded tokens that go through the teacher together, on the longer side; on a processor more of them save no time."""
_ACCELERATOR_BATCH_TOKENS: Final = 1 << 15
"""The same on an accelerator, which idles over few: at a width of 768, hidden units of a layer are 400 MB."""
_FORMAT: Final = "2"


def teacher_distributions(
    rows: TokenRows, teacher: Callable[[], PreTrainedModel], folder: Path, *, teacher_id: str, top_k: int, bf16: bool = True
) -> Distributions:
    """Ask a teacher for its distributions over the rows' labels, or read what an earlier call wrote.

    Of several processes that train together each makes its share of the shards, and reads those of the others.

    Args:
        rows: Sources and labels.
        teacher: Gives the model; only called where a shard is missing.
        folder: Where the shards are.
        teacher_id: Fingerprint of the teacher.
        top_k: Tokens kept at every position; what is left of the probability is one bucket (see ``losses.TopTokens``).
        bf16: Compute in bfloat16 where the device has it.

    Raises:
        RecipeError: no token would be kept, or more than there are.
        LabellingError: no room on the disk, or a folder that not all processes share.
        TeacherError: memory ran out.
    """
    if top_k < 1:
        raise RecipeError(f"training plan: expected top_k of 1 or more, found {top_k}")
    folder.mkdir(parents=True, exist_ok=True)
    shards = [range(begin, min(begin + _SHARD_ROWS, len(rows))) for begin in range(0, len(rows), _SHARD_ROWS)]
    paths = [folder / f"{number:05d}.safetensors" for number in range(len(shards))]
    precision = "bfloat16" if bf16 and has_bf16("cuda" if torch.cuda.is_available() else "cpu") else "float32"
    of_all = {"format": _FORMAT, "teacher": teacher_id, "top_k": str(top_k), "precision": precision}
    claims = [{**of_all, "rows": _rows_digest(rows, shard)} for shard in shards]
    held: dict[int, Distributions] = {}
    model: PreTrainedModel | None = None
    unfit = 0
    for number in tqdm(share_of(len(shards)), desc="distributions", unit="shard", dynamic_ncols=True, mininterval=1.0):
        found = _read(paths[number], claims[number])
        if found is None:
            unfit += paths[number].is_file()
            model = model or teacher().eval()
            found = _ask(model, rows, shards[number], top_k, bf16=bf16)
            _write(paths[number], found, claims[number])
        held[number] = found
    if unfit:
        print(
            f"{folder}: {unfit} of {len(shards)} shards were damaged, of other rows, of another teacher, precision or version, "
            "and were made anew",
            file=sys.stderr,
        )
    wait_for_all()
    for number in (number for number in range(len(shards)) if number not in held):
        theirs = _read(paths[number], claims[number])
        if theirs is None:
            raise LabellingError(
                f"{paths[number]}: expected the distributions that another process of this training made, found none; "
                "the output folder must be one that all processes share"
            )
        held[number] = theirs
    every = [held[number] for number in range(len(shards))]
    return Distributions(np.concatenate([one.ids for one in every]), np.concatenate([one.logprobs for one in every]))


def _ask(model: PreTrainedModel, rows: TokenRows, shard: range, top_k: int, *, bf16: bool) -> Distributions:
    """Run the teacher over a shard's labels, rows of like extent together."""
    vocab_size = model.config.vocab_size
    if top_k > vocab_size:
        raise RecipeError(f"training plan: expected top_k of at most {vocab_size}, the teacher's vocabulary, found {top_k}")
    extents = rows.extents
    order = sorted(shard, key=lambda row: -extents[row])
    first = int(rows.label_offsets[shard.start])
    total = int(rows.label_offsets[shard.stop]) - first
    ids = np.empty((total, top_k), dtype=np.uint16 if vocab_size <= 1 << 16 else np.int32)
    logprobs = np.empty((total, top_k), dtype=np.float16)
    for ranked in _ranked(model, rows, order, top_k, bf16=bf16):
        places = np.concatenate([np.arange(rows.label_offsets[row], rows.label_offsets[row + 1]) for row in ranked.rows]) - first
        ids[places], logprobs[places] = ranked.ids.numpy(), ranked.logprobs.numpy()
    return Distributions(ids, logprobs)


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The likeliest tokens at the labelled positions of some rows, one row after the other."""

    rows: list[int]
    ids: Tensor
    """int64 [positions, k]."""
    logprobs: Tensor
    """float32 [positions, k]."""


def _ranked(model: PreTrainedModel, rows: TokenRows, order: list[int], top_k: int, *, bf16: bool) -> Iterator[_Ranked]:
    """Run the teacher batch by batch; its logits exist for a few positions at a time (see ``heads``)."""
    collate = Collate.of(model)
    tokens = _BATCH_TOKENS if model.device.type == "cpu" else _ACCELERATOR_BATCH_TOKENS
    for chosen in _batches(rows, order, tokens=tokens, multiple=collate.multiple):
        batch: dict[str, Tensor] = {name: tensor.to(model.device) for name, tensor in collate(rows.take(chosen)).items()}
        labels = batch.pop("labels")
        with _memory_for(batch), torch.inference_mode(), products(model.device, bf16=bf16):
            with fewer_passes(model), unspoken(model) as caught:
                model(**batch, use_cache=False)
            found = likeliest(caught[0][labels != IGNORED], top_k)
        yield _Ranked(chosen, found.ids.cpu(), found.logprobs.cpu())


def _memory_for(batch: Mapping[str, Tensor]) -> AbstractContextManager[None]:
    (count, inputs), labels = batch["input_ids"].shape, batch["decoder_input_ids"].size(1)
    return memory_for(
        f"{count} rows of up to {inputs} tokens with labels of up to {labels}",
        remedy="leave out the longest rows, or free some memory; the shards before them are whole, and the same call goes on",
    )


def _batches(rows: TokenRows, order: list[int], *, tokens: int, multiple: int) -> Iterator[list[int]]:
    """Cut rows, longest first, into what goes through the teacher together: so many padded tokens, or one row of more."""
    longest = np.maximum(np.diff(rows.source_offsets), np.diff(rows.label_offsets))
    begin = 0
    while begin < len(order):
        size = max(1, tokens // rounded(int(longest[order[begin]]), multiple))
        yield order[begin : begin + size]
        begin += size


def _rows_digest(rows: TokenRows, shard: range) -> str:
    """Digest of every token of a shard's rows, so that a distribution can never stand beside another label."""
    digest = hashlib.sha256()
    for ids, offsets in ((rows.source_ids, rows.source_offsets), (rows.label_ids, rows.label_offsets)):
        part = offsets[shard.start : shard.stop + 1]
        digest.update((part - part[0]).tobytes())
        digest.update(ids[part[0] : part[-1]].tobytes())
    return digest.hexdigest()


def _content_digest(distributions: Distributions) -> str:
    return hashlib.sha256(distributions.ids.tobytes() + distributions.logprobs.tobytes()).hexdigest()


def _write(path: Path, distributions: Distributions, claim: dict[str, str]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"ids": distributions.ids, "logprobs": distributions.logprobs}
        save_file(tensors, aside, metadata={**claim, "sha256": _content_digest(distributions)})
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        raise LabellingError(
            f"{path}: expected a place that can be written, found: {error}; the shards before it are whole: make room, "
            "and the same call goes on"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _read(path: Path, claim: dict[str, str]) -> Distributions | None:
    """A shard that is whole and what it claims to be, or None."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            found = Distributions(file.get_tensor("ids"), file.get_tensor("logprobs"))
    except (SafetensorError, OSError, KeyError):
        return None
    return found if metadata == {**claim, "sha256": _content_digest(found)} else None

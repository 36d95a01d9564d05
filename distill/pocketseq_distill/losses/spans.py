"""Spans: distillation across tokenizers, on the stretches of an answer at whose ends both tokenizers have a boundary.

Teacher and student read the same answer in different tokens. Where a token of either ends at the same character, the text since
the last such place is a span that both give a probability to, the product of its tokens'. The student's is drawn to the teacher's
by the divergence of two events, this span or any other (Minixhofer et al. 2025, "Universal Cross-Tokenizer Distillation via
Approximate Likelihood Matching").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import PreTrainedModel

from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.losses.heads import label_logprobs, unspoken
from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.precision import products
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.training.batches import Collate
from pocketseq_distill.training.processes import is_first

_BATCH_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the common spans of one answer end, in the tokens of each side."""

    student: tuple[int, ...]
    """Tokens of the student up to each end, rising; the last is all of them."""
    teacher: tuple[int, ...]
    """The same for the teacher."""


def common_ends(student: TextTokenizer, student_ids: Sequence[int], teacher: TextTokenizer, teacher_ids: Sequence[int]) -> Ends:
    """Find the places where both tokenizers have a boundary in the same answer.

    A boundary is known by the text before it and the special tokens among it, so that an edit's marks are boundaries of their own
    and half a character is none.

    Args:
        student: The student's tokenizer.
        student_ids: The answer in its tokens, end token included.
        teacher: The teacher's.
        teacher_ids: The same answer in its tokens, end token included.
    """
    ours, theirs = _boundaries(student, student_ids[:-1]), _boundaries(teacher, teacher_ids[:-1])
    ends = [(ours[key], theirs[key]) for key in ours if key in theirs and ours[key] and theirs[key]]
    ends.append((len(student_ids), len(teacher_ids)))
    rising = [ends[-1]]
    for pair in reversed(ends[:-1]):
        if pair[0] < rising[-1][0] and pair[1] < rising[-1][1]:
            rising.append(pair)
    rising.reverse()
    return Ends(tuple(pair[0] for pair in rising), tuple(pair[1] for pair in rising))


def _boundaries(tokenizer: TextTokenizer, ids: Sequence[int]) -> dict[tuple[int, str], int]:
    """Tokens up to each boundary, by what stands before it."""
    whole = tokenizer.decode(ids)
    found: dict[tuple[int, str], int] = {}
    special = 0
    for count in range(1, len(ids) + 1):
        special += not tokenizer.decode(ids[count - 1 : count])
        text = tokenizer.decode(ids[:count])
        if whole.startswith(text):
            found[special, text] = count
    return found


def teacher_spans(
    rows: TokenRows, teacher: PreTrainedModel, teacher_rows: TokenRows, ends: Sequence[Ends], *, given: int = 0, bf16: bool = True
) -> npt.NDArray[np.float32]:
    """Ask a teacher for the log-probability of every common span.

    Args:
        rows: The student's rows.
        teacher: The model.
        teacher_rows: The same rows in the teacher's tokens.
        ends: Where each row's spans end.
        given: Tokens at the beginning of each of the teacher's rows that it is made to say; they belong to no span, and ``ends``
            are counted behind them.
        bf16: Compute in bfloat16 where the device has it.

    Returns:
        float32 [all label tokens of ``rows``]: at the last token of a span its log-probability, NaN elsewhere.
    """
    found = np.full(len(rows.label_ids), np.nan, dtype=np.float32)
    collate = Collate.of(teacher)
    order = np.argsort(teacher_rows.extents, kind="stable")
    teacher.eval()
    batches = range(0, len(order), _BATCH_ROWS)
    for begin in tqdm(batches, desc="spans", unit="batch", dynamic_ncols=True, mininterval=1.0, disable=not is_first()):
        chosen = order[begin : begin + _BATCH_ROWS].tolist()
        batch = {name: tensor.to(teacher.device) for name, tensor in collate(teacher_rows.take(chosen)).items()}
        labels = batch.pop("labels")
        with torch.no_grad(), products(teacher.device, bf16=bf16), unspoken(teacher) as caught:
            teacher(**batch, use_cache=False)
            reached = label_logprobs(caught[0], labels)[:, given:].cumsum(1).cpu().numpy()
        for place, row in enumerate(chosen):
            totals = reached[place][np.array(ends[row].teacher) - 1]
            found[rows.label_offsets[row] + np.array(ends[row].student) - 1] = np.diff(totals, prepend=0.0)
    return found


def span_divergence(logprobs: Tensor, spans: Tensor, labels: Tensor) -> Tensor:
    """Sum over the common spans of the divergence between teacher and student on this span against any other.

    Args:
        logprobs: float32 [batch, step]: the student's log-probability of each label; zero where there is none.
        spans: float32 [batch, step]: the teacher's of a span at its last token, NaN elsewhere.
        labels: int64 [batch, step]; ``IGNORED`` where there is none.

    Returns:
        float32 []; zero where there are no spans.
    """
    ends = spans.isfinite() & (labels != IGNORED)
    reached = logprobs.cumsum(1)
    total = torch.zeros((), device=logprobs.device)
    rows = ends.nonzero()[:, 0]
    at_ends = reached[ends]
    if not len(at_ends):
        return total + 0 * logprobs.sum()
    before = torch.cat((at_ends.new_zeros(1), at_ends[:-1]))
    first = torch.cat((rows.new_ones(1).bool(), rows[1:] != rows[:-1]))
    own = at_ends - torch.where(first, torch.zeros_like(before), before)
    own, theirs = own.clamp(max=-1e-6), spans[ends].clamp(max=-1e-6)
    chance = theirs.exp()
    return total + (chance * (theirs - own) + (1 - chance) * (torch.log1p(-chance) - torch.log1p(-own.exp()))).sum()

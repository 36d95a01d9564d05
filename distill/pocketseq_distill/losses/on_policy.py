"""On-policy batches: the student answers itself, and learns from what its teacher says along the way.

Trained on its teacher's answers alone, a student never sees the prefixes that its own mistakes lead to. Generalized knowledge
distillation lets it answer a share λ of the batches and asks the teacher about those answers (Agarwal et al. 2024, "On-Policy
Distillation of Language Models", algorithm 1; λ 0.25 to 0.5 and a tenth of the learning rate are a good end of a training).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.special_ids import SpecialIds, without_defaults


def is_on_policy(share: float, *, seed: int, step: int) -> bool:
    """Whether the batches of an update are the student's own; a function of seed and update, so that a resumed training agrees.

    Args:
        share: λ at that update, the share of updates (see ``schedules``).
        seed: Seed of the training.
        step: Updates made so far.
    """
    return share > 0 and float(np.random.default_rng((seed, step)).random()) < share


@torch.no_grad()
def own_answers(student: PreTrainedModel, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put answers drawn from the student, at temperature 1 and at most as long as the longest label, in place of a batch's labels.

    Args:
        student: The model in training; dropout is off while it answers.
        inputs: A batch of ``Collate``.

    Returns:
        The batch with ``labels`` and ``decoder_input_ids`` int64 [batch, step] of the student's own answers.
    """
    special = SpecialIds.of(student)
    settings = special.asking(
        do_sample=True,
        top_k=0,
        max_new_tokens=int((inputs["labels"] != IGNORED).sum(dim=1).max()),  # which may be padded to more
    )
    training = student.training
    student.eval()
    with without_defaults(student):
        drawn = student.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=settings)
    student.train(training)
    prefixes, labels = drawn[:, :-1], drawn[:, 1:].clone()
    # Behind an answer's end generate() pads; the padding token itself may be part of an answer before it.
    ends = torch.isin(labels, torch.tensor(sorted(special.ends), device=labels.device)).long()
    labels[ends.cumsum(dim=1) - ends > 0] = IGNORED
    return {**inputs, "labels": labels, "decoder_input_ids": prefixes}

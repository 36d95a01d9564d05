"""Validation in training: generate on held-out rows, and see how many answers are exactly right and how near the rest come."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import torch
from transformers import PreTrainedModel

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.metrics import chrf, exact_match
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.labels import source_digest

_BATCH_ROWS: Final = 64
_ACCELERATOR_BATCH_ROWS: Final = 512
"""Rows decoded together on an accelerator, where a step of sixty takes as long as one of many more."""


def held_out(validation: Sequence[Example], train: Sequence[Example]) -> list[Example]:
    """The rows of a validation whose input is not trained on; how many are, is told on standard error.

    Raises:
        DataError: all of them are, so that nothing is left to validate on.
    """
    seen = {source_digest(example) for example in train}
    kept = [example for example in validation if source_digest(example) not in seen]
    inside = len(validation) - len(kept)
    if validation and not kept:
        raise DataError(
            f"expected validation rows that are not trained on, found the inputs of all {inside} among the training rows; "
            "hold rows out, or validate on others"
        )
    if inside:
        print(f"left out of validation: {inside} of {len(validation)} rows, whose inputs are trained on", file=sys.stderr)
    return kept


class HeldOutAnswers:
    """How a model in training answers held-out rows, greedily: the share that is exactly right, and chrF to the references."""

    def __init__(self, examples: Sequence[Example], tokenizer: TextTokenizer, card: CheckpointCard) -> None:
        """Choose what to validate on.

        Args:
            examples: Held-out rows with their references, at least one.
            tokenizer: The model's tokenizer.
            card: Template and longest answer of the checkpoint to be.
        """
        self._examples = examples
        self._tokenizer = tokenizer
        self._card = card

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        """Measure a model.

        Returns:
            ``exact_match`` and ``chrf``, from 0 to 1.
        """
        batch_size = _BATCH_ROWS if model.device.type == "cpu" else _ACCELERATOR_BATCH_ROWS
        # The state of dropout goes on as if nothing had been generated, so that validating more often changes no weights.
        with torch.random.fork_rng(devices=[]):
            answers = TeacherModel(model, self._tokenizer, self._card).answer(
                [example.fields for example in self._examples], batch_size=batch_size
            )
        texts, targets = [answer.text for answer in answers], [example.target for example in self._examples]
        return {"exact_match": exact_match(texts, targets), "chrf": chrf(texts, targets)}

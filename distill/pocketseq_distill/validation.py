"""Validation in training: generate on held-out rows and count the answers that are exactly right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from pocketseq.checkpoint import CheckpointCard
from pocketseq.examples import Example
from pocketseq.metrics import exact_match
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.generation import TeacherModel


class ExactMatch:
    """Share of rows that a model in training answers exactly as the reference does, greedily."""

    def __init__(
        self, examples: Sequence[Example], tokenizer: TextTokenizer, card: CheckpointCard, *, batch_size: int = 64
    ) -> None:
        """Choose what to validate on.

        Args:
            examples: Held-out rows with their references, at least one.
            tokenizer: The model's tokenizer.
            card: Template and longest answer of the checkpoint to be.
            batch_size: Rows decoded together.
        """
        self._examples = examples
        self._tokenizer = tokenizer
        self._card = card
        self._batch_size = batch_size

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        """Measure a model.

        Returns:
            ``exact_match``, from 0 to 1.
        """
        # The state of dropout goes on as if nothing had been generated, so that validating more often changes no weights.
        with torch.random.fork_rng(devices=[]):
            answers = TeacherModel(model, self._tokenizer, self._card).answer(
                [example.fields for example in self._examples], batch_size=self._batch_size
            )
        return {"exact_match": exact_match([answer.text for answer in answers], [example.target for example in self._examples])}

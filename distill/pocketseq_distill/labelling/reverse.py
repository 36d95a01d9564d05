"""Reverse models: how well an answer tells what was asked, by a model that was trained from answers to inputs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Final

from pocketseq_distill.labelling.checkpoint import LazyCheckpoint

_BATCH_ROWS: Final = 64


class ReverseModel(LazyCheckpoint):
    """A checkpoint that goes from answers to inputs; the threads that wait for an endpoint share one, and take turns."""

    def __init__(self, path: str | Path, *, device: str | None = None) -> None:
        """Name a checkpoint; see ``LazyCheckpoint``."""
        super().__init__(path, device=device)
        self._turn = threading.Lock()  # a model is asked with its output layer put aside

    def cross_entropies(self, sources: Sequence[str], answers: Sequence[str]) -> list[float]:
        """Score answers by the inputs that they answer.

        Args:
            sources: What was asked, one text for each answer.
            answers: What was answered.

        Returns:
            Mean over the source's tokens, end token included, of −log p(token | tokens before it, answer), in nats; infinite for
            an answer of nothing, and for a source that the reverse model's template cannot express.
        """
        pairs = [(place, *pair) for place, pair in enumerate(zip(sources, answers, strict=True)) if pair[1].strip()]
        found = [inf] * len(answers)
        pairs.sort(key=lambda pair: len(pair[1]) + len(pair[2]))
        for begin in range(0, len(pairs), _BATCH_ROWS):
            part = pairs[begin : begin + _BATCH_ROWS]
            with self._turn:
                values = self._ask([(source, answer) for _, source, answer in part])
            for (place, _, _), value in zip(part, values, strict=True):
                found[place] = value
        return found

    def _ask(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        import torch

        from pocketseq_distill.losses.heads import label_logprobs, unspoken
        from pocketseq_distill.losses.terms import IGNORED
        from pocketseq_distill.rows import TokenRows
        from pocketseq_distill.special_ids import SpecialIds
        from pocketseq_distill.training.batches import Collate

        model = self.model.model
        special = SpecialIds.of(model)
        encoded = [self.model.encode(answer) for _, answer in pairs]
        targets = [
            self.card.template.encode_target(self.model.tokenizer, one, source)
            for one, (source, _) in zip(encoded, pairs, strict=True)
        ]
        rows = TokenRows.of([one.ids for one in encoded], [[*special.given, *(target or []), special.end] for target in targets])
        collate = Collate.of(model)
        batch = {name: tensor.to(model.device) for name, tensor in collate(rows).items()}
        labels = batch.pop("labels")
        with torch.inference_mode(), unspoken(model) as said:
            model(**batch, use_cache=False)
            logprobs = label_logprobs(said[0], labels)
        # What the model is made to say is no token of the source.
        logprobs, labels = (values[:, len(special.given) :] for values in (logprobs, labels))
        means = (-logprobs.sum(1) / (labels != IGNORED).sum(1)).tolist()
        return [inf if target is None else float(mean) for target, mean in zip(targets, means, strict=True)]

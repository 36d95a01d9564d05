"""Lessons: what a student learns from one batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from pocketseq.errors import CheckpointError, RecipeError, TrainingError
from pocketseq_distill.losses.heads import Taught, Unspoken, chunked_loss, label_logprobs, unspoken
from pocketseq_distill.losses.matching import LayerMap, Matching
from pocketseq_distill.losses.on_policy import is_on_policy, own_answers
from pocketseq_distill.losses.spans import span_divergence
from pocketseq_distill.losses.terms import IGNORED, TopTokens
from pocketseq_distill.precision import has_bf16, products
from pocketseq_distill.training.kernels import fewer_passes
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.schedules import on_policy_share


class Lesson:
    """The losses of one student under one plan, with its teacher where there is one."""

    def __init__(
        self,
        student: PreTrainedModel,
        plan: TrainingPlan,
        *,
        teacher: PreTrainedModel | None,
        layers: LayerMap | None,
        device: torch.device,
    ) -> None:
        """Prepare a student and its teacher.

        Args:
            student: The model in training; gets projections where its states are matched at another width.
            plan: Its losses.
            teacher: A frozen model with the same vocabulary, asked as the batches come.
            layers: Which of the teacher's layers each of the student's is compared with.
            device: Where the teacher runs.

        Raises:
            CheckpointError: teacher and student differ in vocabulary.
            RecipeError: states or attention are to be matched, and there is no teacher.
        """
        if teacher is not None and teacher.config.vocab_size != student.config.vocab_size:
            raise CheckpointError(
                f"expected teacher and student with one vocabulary, found {teacher.config.vocab_size} and "
                f"{student.config.vocab_size} tokens; train on the teacher's labels alone (divergence = 0), "
                "or give the student the teacher's tokenizer"
            )
        self._student = student
        self._plan = plan
        self._device = device
        self._teacher = None if teacher is None else teacher.eval().requires_grad_(False).to(device)
        self._encoder_frozen = False
        self._shares_encoder = self._teacher is not None and _same_weights(student.get_encoder(), self._teacher.get_encoder())
        self._matching: Matching | None = None
        if plan.hidden or plan.attention:
            if self._teacher is None or layers is None:
                raise RecipeError("training plan: hidden and attention compare with a teacher as the batches come; give it one")
            self._matching = Matching(student, self._teacher, layers, hidden=plan.hidden, attention=plan.attention, seed=plan.seed)

    def loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        *,
        step: int,
        rate: float,
        items: Tensor | int | None,
        elapsed_s: float = 0.0,
        fixed: bool = False,
    ) -> Tensor:
        """The loss of one batch, divided by the labels of its whole update.

        Args:
            model: The student, as it may be wrapped for several processes.
            inputs: A batch of ``Collate``.
            step: Updates made so far.
            rate: Learning rate of the update, for the message where the loss is not finite.
            items: Labels in all batches of the update, over all processes; None for those of this batch.
            elapsed_s: Seconds of training so far, where a budget ends it.
            fixed: Compute in shapes that depend on those of the batch alone, and look at no value, as recorded updates want it
                (see ``graphs``); whether the loss is finite the caller checks then.

        Raises:
            TrainingError: the loss is not finite.
        """
        self._freeze_encoder(step < self._plan.frozen_encoder_steps)
        labels, weights = inputs["labels"], self._plan.loss
        items = (labels != IGNORED).sum() if items is None else items
        if is_on_policy(on_policy_share(self._plan, step=step, elapsed_s=elapsed_s), seed=self._plan.seed, step=step):
            given = (labels != IGNORED).sum()
            inputs = own_answers(self._student, inputs)
            labels, weights = inputs["labels"], replace(weights, cross_entropy=0.0, doubt=0.0)
            # The batch weighs what its given labels would, however long the student's answers are.
            items = items * (labels != IGNORED).sum() / given
        known = TopTokens(inputs.pop("top_ids"), inputs.pop("top_logprobs")) if "top_ids" in inputs else None
        spans = inputs.pop("spans", None)
        seen: dict[str, Any] = {name: value for name, value in inputs.items() if name != "labels"}
        if self._encoder_frozen:
            seen["encoder_outputs"] = self._encode(seen.pop("input_ids"), seen["attention_mask"])
        asks = self._matching.asks if self._matching else {}
        with fewer_passes(self._student), unspoken(self._student) as caught:
            outputs = model(**seen, **asks, use_cache=False)
        student = caught[0]
        taught: Taught | None = known
        theirs = self._ask_teacher(inputs, seen.get("encoder_outputs"), asks)
        if theirs is not None:
            taught, their_outputs = theirs
        with self.precision():
            parts = {"labels and divergence": chunked_loss(student, taught, labels, weights, fixed=fixed)}
            if spans is not None and self._plan.spans:
                parts["spans"] = self._plan.spans * span_divergence(label_logprobs(student, labels), spans, labels)
            if self._matching is not None and theirs is not None:
                parts["matching"] = self._matching.loss(outputs, their_outputs, inputs)
        losses = torch.stack(list(parts.values()))
        if not fixed:
            self.check(dict(zip(parts, losses.tolist(), strict=True)), step, rate)
        return losses.sum() / items

    @property
    def can_be_fixed(self) -> bool:
        """Whether the shapes of an update can be those of its batch alone."""
        plan = self._plan
        compared = plan.divergence > 0 and plan.divergence_kind == "jensen_shannon"
        return not (compared or plan.on_policy or plan.spans or plan.frozen_encoder_steps or self._matching)

    def check(self, parts: Mapping[str, float], step: int, rate: float) -> None:
        """Refuse losses that are not finite.

        Raises:
            TrainingError: one of them is not.
        """
        broken = {name: value for name, value in parts.items() if not math.isfinite(value)}
        if broken:
            name, value = next(iter(broken.items()))
            raise TrainingError(
                f"expected a finite loss, found {value} of {name} in step {step + 1} at a learning rate of {rate:.2g}; "
                f"try a lower learning_rate than {self._plan.learning_rate} or more warmup_steps than {self._plan.warmup_steps}"
                f"{', or bf16 = false' if self._plan.bf16 and has_bf16(self._device.type) else ''}; "
                "the checkpoints before it are kept, and another plan starts over"
            )

    def _ask_teacher(
        self, inputs: Mapping[str, Tensor], states: BaseModelOutput | None, asks: Mapping[str, bool]
    ) -> tuple[Unspoken, Any] | None:
        """What the teacher has in mind on the labels' own prefixes, and its outputs."""
        if self._teacher is None or not (self._plan.divergence or self._matching):
            return None
        shared = states is not None and self._shares_encoder
        source = {"encoder_outputs": states} if shared else {"input_ids": inputs["input_ids"]}
        given = {"attention_mask": inputs["attention_mask"], "decoder_input_ids": inputs["decoder_input_ids"]}
        with torch.no_grad(), self.precision(), fewer_passes(self._teacher), unspoken(self._teacher) as caught:
            outputs = self._teacher(**source, **given, **asks, use_cache=False)
        return caught[0], outputs

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Encode with the frozen encoder: no gradient, no dropout, and good for a teacher that has the same encoder."""
        encoder = self._student.get_encoder().eval()
        with torch.no_grad(), self.precision():
            states = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return BaseModelOutput(last_hidden_state=states)

    def _freeze_encoder(self, frozen: bool) -> None:
        if frozen != self._encoder_frozen:
            self._encoder_frozen = frozen
            for parameter in self._student.get_encoder().parameters():
                parameter.requires_grad_(not frozen)

    def precision(self) -> torch.autocast:
        """The precision that the plan computes in on this device."""
        return products(self._device, bf16=self._plan.bf16)

    def end(self) -> None:
        """Leave the student as it was: trainable as a whole, without projections."""
        self._freeze_encoder(False)
        if self._matching is not None:
            self._matching.drop()


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(
        left[name].shape == right[name].shape and torch.equal(left[name].cpu(), right[name].cpu()) for name in left
    )

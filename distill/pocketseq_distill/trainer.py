"""The trainer: Hugging Face's, with a teacher in its loss."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.modeling_outputs import BaseModelOutput
from transformers.trainer_callback import PrinterCallback

from pocketseq.errors import CheckpointError, TrainingError
from pocketseq_distill.batches import Collate, LengthGroupedOrder
from pocketseq_distill.callbacks import Clock, ProgressBar
from pocketseq_distill.losses import IGNORED, TopTokens, distillation_loss
from pocketseq_distill.on_policy import is_on_policy, own_answers
from pocketseq_distill.optimizers import Muon
from pocketseq_distill.plan import TrainingPlan
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.schedules import rate_factor

Validation: TypeAlias = Callable[[PreTrainedModel], Mapping[str, float]]
"""Measures a model in training; ``exact_match`` among what it returns decides which checkpoint is best."""

_BEST_METRIC = "exact_match"


class DistillationTrainer(Seq2SeqTrainer):
    """Trains a student on labels and, where there is one, on its teacher's distribution; without a teacher, plain training."""

    control: Any
    lr_scheduler: Any
    optimizer: Any

    def __init__(
        self,
        model: PreTrainedModel,
        rows: TokenRows,
        plan: TrainingPlan,
        *,
        state_dir: Path,
        teacher: PreTrainedModel | None = None,
        validation: Validation | None = None,
    ) -> None:
        """Prepare a training.

        Args:
            model: The student; changed in place.
            rows: What it trains on.
            plan: How.
            state_dir: Where the checkpoints go from which a killed run resumes.
            teacher: A frozen model with the same vocabulary, whose logits are computed as the batches come.
            validation: Measures the student every ``plan.validate_every`` updates.

        Raises:
            CheckpointError: teacher and student differ in vocabulary.
            TrainingError: there are no rows.
        """
        if len(rows) == 0:
            raise TrainingError("expected rows to train on, found none; look at the counts of the filters")
        if teacher is not None and teacher.config.vocab_size != model.config.vocab_size:
            raise CheckpointError(
                f"expected teacher and student with one vocabulary, found {teacher.config.vocab_size} and "
                f"{model.config.vocab_size} tokens; train on the teacher's labels alone (divergence = 0), "
                "or give the student the teacher's tokenizer"
            )
        self.plan = plan
        validates = validation is not None and plan.validate_every is not None
        self.clock = Clock(plan, validates=validates)
        self._validation = validation
        super().__init__(
            model=model,
            args=_arguments(plan, state_dir, validates=validates),
            train_dataset=rows,
            # The arguments insist on a set to evaluate on; ``evaluate`` asks the validation instead.
            eval_dataset=rows if validates else None,
            data_collator=Collate(pad_id=model.config.pad_token_id, shift=model.prepare_decoder_input_ids_from_labels),
            callbacks=[self.clock, ProgressBar(plan, self.clock)],
        )
        self.pop_callback(PrinterCallback)
        # The loss below is a sum over labels divided by the labels of the whole update. The models' own signature says the same
        # of theirs, which is not true: their means, summed over an accumulation, would give too large a gradient.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self._teacher = None if teacher is None else teacher.eval().requires_grad_(False).to(self.args.device)
        self._encoder_frozen = False
        self._shares_encoder = self._teacher is not None and _same_weights(model.get_encoder(), self._teacher.get_encoder())

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The loss of one batch, divided by the labels of its whole update.

        Args:
            model: The student, as accelerate wraps it.
            inputs: A batch of ``Collate``.
            return_outputs: Whether to return the student's outputs too.
            num_items_in_batch: Labels in all batches of the update, over all processes.

        Raises:
            TrainingError: the loss is not finite.
        """
        self._freeze_encoder(self.state.global_step < self.plan.frozen_encoder_steps)
        labels, weights = inputs["labels"], self.plan.loss
        items = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        if is_on_policy(self.plan.on_policy, seed=self.plan.seed, step=self.state.global_step):
            given = (labels != IGNORED).sum()
            inputs = own_answers(self.accelerator.unwrap_model(model), inputs)
            labels, weights = inputs["labels"], replace(weights, cross_entropy=0.0)
            # The batch weighs what its given labels would, however long the student's answers are.
            items = items * (labels != IGNORED).sum() / given
        known = TopTokens(inputs.pop("top_ids"), inputs.pop("top_logprobs")) if "top_ids" in inputs else None
        seen: dict[str, Any] = {name: value for name, value in inputs.items() if name != "labels"}
        if self._encoder_frozen:
            seen["encoder_outputs"] = self._encode(seen.pop("input_ids"), seen["attention_mask"])
        outputs = model(**seen, use_cache=False)
        teaching = known or self._teacher_logits(inputs, seen.get("encoder_outputs"))
        loss = distillation_loss(outputs.logits, teaching, labels, weights)
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"expected a finite loss, found {loss.item()} in step {self.state.global_step + 1}; "
                f"try a lower learning_rate than {self.plan.learning_rate}, more warmup_steps than {self.plan.warmup_steps}, "
                "or bf16 = false"
            )
        # Gradients are averaged over processes, while the count is of all of them.
        loss = loss * self.accelerator.num_processes / items
        return (loss, outputs) if return_outputs else loss

    def _teacher_logits(self, inputs: Mapping[str, Tensor], states: BaseModelOutput | None) -> Tensor | None:
        """The teacher's logits [batch, step, vocab] on the labels' own prefixes."""
        if self._teacher is None or not self.plan.loss.divergence:
            return None
        shared = states is not None and self._shares_encoder
        source = {"encoder_outputs": states} if shared else {"input_ids": inputs["input_ids"]}
        with torch.no_grad(), self._precision():
            logits: Tensor = self._teacher(
                **source, attention_mask=inputs["attention_mask"], decoder_input_ids=inputs["decoder_input_ids"], use_cache=False
            ).logits
        return logits

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Encode with the frozen encoder: no gradient, no dropout, and good for a teacher that has the same encoder."""
        encoder = self.model.get_encoder().eval()
        with torch.no_grad(), self._precision():
            states = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return BaseModelOutput(last_hidden_state=states)

    def _freeze_encoder(self, frozen: bool) -> None:
        if frozen != self._encoder_frozen:
            self._encoder_frozen = frozen
            for parameter in self.model.get_encoder().parameters():
                parameter.requires_grad_(not frozen)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.plan.bf16)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validate the student and tell the callbacks."""
        assert self._validation is not None
        with self._precision():
            metrics = {f"eval_{name}": float(value) for name, value in self._validation(self.model).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_optimizer(self, model: nn.Module | None = None) -> Any:
        """The plan's optimiser."""
        if self.plan.optimizer == "muon" and self.optimizer is None:
            self.optimizer = Muon(
                model or self.model,
                learning_rate=self.plan.learning_rate,
                betas=(0.9, self.plan.beta2),
                weight_decay=self.plan.weight_decay,
            )
            return self.optimizer
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The plan's schedule, which follows the clock as well as the steps."""
        del num_training_steps  # the plan knows it
        if self.lr_scheduler is None:

            def factor(step: int) -> float:
                return rate_factor(self.plan, step=step, elapsed_s=self.clock.elapsed_s)

            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: TokenRows | None = None) -> LengthGroupedOrder:
        rows = self.train_dataset if train_dataset is None else train_dataset
        update_rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedOrder(rows.lengths, update_rows=update_rows, seed=self.plan.seed)


def last_complete_checkpoint(state_dir: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a kill left half written is removed.

    The trainer's state is the last file that a checkpoint gets, so one whose state reads as JSON is whole.
    """
    newest: tuple[int, Path] | None = None
    for path in state_dir.glob("checkpoint-*"):
        try:
            step = int(json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))["global_step"])
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path)
            continue
        if newest is None or step > newest[0]:
            newest = (step, path)
    return newest[1] if newest else None


def _arguments(plan: TrainingPlan, state_dir: Path, *, validates: bool) -> Seq2SeqTrainingArguments:
    return Seq2SeqTrainingArguments(
        output_dir=str(state_dir),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.accumulation,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        adam_beta2=plan.beta2,
        max_grad_norm=plan.clip_norm,
        optim="adamw_torch_fused",
        bf16=plan.bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=plan.seed,
        # The pair of them makes every validation a checkpoint, so that the best one can be taken at the end.
        eval_strategy="steps" if validates else "no",
        eval_steps=plan.validate_every,
        save_strategy="steps",
        save_steps=plan.validate_every if validates else plan.steps,
        save_total_limit=2,
        load_best_model_at_end=validates,
        metric_for_best_model=_BEST_METRIC if validates else None,
        greater_is_better=True if validates else None,
        logging_steps=10,
        logging_nan_inf_filter=False,
        report_to="none",
        log_level="error",
        disable_tqdm=True,
        use_cache=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
    )


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(
        left[name].shape == right[name].shape and torch.equal(left[name].cpu(), right[name].cpu()) for name in left
    )

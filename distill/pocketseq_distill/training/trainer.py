"""The trainer: Hugging Face's, with a teacher in its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, Seq2SeqTrainer
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from pocketseq.errors import RecipeError
from pocketseq_distill.losses.lesson import Lesson
from pocketseq_distill.losses.matching import LayerMap
from pocketseq_distill.losses.terms import IGNORED
from pocketseq_distill.rows import TokenRows, require_rows
from pocketseq_distill.training.arguments import trainer_arguments
from pocketseq_distill.training.averaging import WeightAverage
from pocketseq_distill.training.batches import Collate, GroupedOrder, parts_of
from pocketseq_distill.training.callbacks import Averaging, Clock, EpochOrder, ProgressBar
from pocketseq_distill.training.dropout import ByteDropout
from pocketseq_distill.training.graphs import RecordedGradients
from pocketseq_distill.training.optimizers import Muon
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.processes import of_first
from pocketseq_distill.training.resumption import load_result
from pocketseq_distill.training.schedules import rate_factor

Validation: TypeAlias = Callable[[PreTrainedModel], Mapping[str, float]]
"""Measures a model in training; what the plan's ``judged_by`` names among what it returns decides which checkpoint is best."""


@dataclass(frozen=True, slots=True)
class _Replayed:
    """The loss of an update that a graph made."""

    loss: Tensor
    """float32 [], on the accelerator."""
    step: int
    """Updates made before it."""
    rate: float
    """Its learning rate."""


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
        layers: LayerMap | None = None,
        validation: Validation | None = None,
    ) -> None:
        """Prepare a training.

        Args:
            model: The student; changed in place.
            rows: What it trains on.
            plan: How.
            state_dir: Where the checkpoints go from which a killed run resumes.
            teacher: A frozen model with the same vocabulary, whose logits are computed as the batches come.
            layers: Which of the teacher's layers each of the student's is compared with, where states or attention are matched.
            validation: Measures the student every ``plan.validate_every`` updates.

        Raises:
            CheckpointError: teacher and student differ in vocabulary.
            MissingExtraError: a tracker that is not installed.
            RecipeError: states or attention are to be matched, and there is no teacher; or batches are to go through in parts
                where several processes share them.
            RecipeError: a divergence, and nothing to diverge from.
            TrainingError: there are no rows.
        """
        require_rows(rows)
        if plan.divergence and teacher is None and rows.distributions is None:
            raise RecipeError("training plan: expected a teacher beside divergence, found none; leave divergence out")
        self.plan = plan
        validates = validation is not None and plan.validate_every is not None
        self.clock = Clock(plan, validates=validates)
        self._validation = validation
        arguments = trainer_arguments(plan, state_dir, validates=validates)
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=rows,
            # The arguments insist on a set to evaluate on; ``evaluate`` asks the validation instead.
            eval_dataset=rows if validates else None,
            data_collator=Collate.of(model, device=arguments.device),
            callbacks=[self.clock],
        )
        if plan.tokens_at_once is not None and self.args.world_size > 1:
            # Each part ends in an exchange of gradients, and processes have unlike numbers of parts.
            raise RecipeError(
                f"training plan: expected tokens_at_once in one process alone, found {self.args.world_size} processes; leave it "
                "out, and take a smaller batch_size with accumulation"
            )
        update_rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        self._order = GroupedOrder(rows.extents, update_rows=update_rows, seed=plan.seed, whole=self.args.world_size > 1)
        self.add_callback(EpochOrder(self._order))
        self.pop_callback(PrinterCallback)
        if self.is_world_process_zero():
            self.add_callback(ProgressBar(plan, self.clock))
        # The loss below is a sum over labels divided by the labels of the whole update. The models' own signature says the same
        # of theirs, which is not true: their means, summed over an accumulation, would give too large a gradient.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self.lesson = Lesson(model, plan, teacher=teacher, layers=layers, device=self.args.device)
        self._recorded: RecordedGradients | None = None
        self._unchecked: _Replayed | None = None
        if self.args.device.type == "cuda" and self.args.world_size == 1 and plan.accumulation == 1 and self.lesson.can_be_fixed:
            self._recorded = RecordedGradients(model.parameters(), self._fixed_loss)
        self._average = None if plan.average is None else WeightAverage(model, decay=plan.average)
        if self._average is not None:
            self.add_callback(Averaging(self._average))

    def keep_events(self, folder: Path) -> None:
        """Have TensorBoard, where it is told, write to a folder that outlives the training, unless its variable names another."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(folder)

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Make the gradients of one batch, in parts where it is longer than the plan allows.

        Args:
            model: See ``compute_loss``.
            inputs: See ``compute_loss``.
            num_items_in_batch: See ``compute_loss``; it divides each part, so that parts add up to the batch.

        Returns:
            float32 []: the loss of the batch.
        """
        items = (inputs["labels"] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        limit = self.plan.tokens_at_once
        parts = [inputs] if limit is None else parts_of(inputs, limit)
        if len(parts) == 1 and self._recorded is not None:
            return self._replayed(self._recorded, model, inputs, torch.as_tensor(items))
        self._check_replayed()  # before these look at theirs, so that each is told by its own update
        losses = [super(DistillationTrainer, self).training_step(model, part, items) for part in parts]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _replayed(self, recorded: RecordedGradients, model: nn.Module, inputs: dict[str, Tensor], items: Tensor) -> Tensor:
        model.train()
        loss = recorded(self._prepare_inputs({**inputs, "items": items}))
        self._check_replayed()
        self._unchecked = _Replayed(loss, self.state.global_step, self.optimizer.param_groups[0]["lr"])
        return loss

    def _check_replayed(self) -> None:
        """Refuse the last replayed loss if it is not finite.

        Only when the next one is on its way, or its weights are about to be measured or kept: a look at it waits for the
        accelerator, which has nothing to do while it is waited for.
        """
        if self._unchecked is not None:
            last, self._unchecked = self._unchecked, None
            self.lesson.check({"labels and divergence": float(last.loss)}, last.step, last.rate)

    def _fixed_loss(self, inputs: dict[str, Tensor]) -> Tensor:
        """The loss of a batch with the number of its labels as ``items``, in shapes that are those of the batch alone."""
        items = inputs.pop("items")
        with self.compute_loss_context_manager():
            return self.lesson.loss(self.model_wrapped, inputs, step=0, rate=0.0, items=items, fixed=True)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The loss of one batch (see ``lesson``).

        Args:
            model: The student, as accelerate wraps it.
            inputs: A batch of ``Collate``.
            return_outputs: Whether to return the student's outputs too; there are none that hold logits.
            num_items_in_batch: Labels in all batches of the update, over all processes.

        Raises:
            TrainingError: the loss is not finite.
        """
        step, rate, elapsed_s = self.state.global_step, self.optimizer.param_groups[0]["lr"], self.clock.agreed_s
        # Elsewhere dropout is a kernel, and the mode would only look at every call.
        with ByteDropout() if self.args.device.type == "cpu" else nullcontext():
            loss = self.lesson.loss(model, inputs, step=step, rate=rate, items=num_items_in_batch, elapsed_s=elapsed_s)
        # Gradients are averaged over processes, while the count is of all of them.
        loss = loss * self.accelerator.num_processes
        return (loss, None) if return_outputs else loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validate the student, or the average of its weights, and tell the callbacks."""
        assert self._validation is not None
        self._check_replayed()
        found: dict[str, float] = {}
        if self.is_world_process_zero():
            with self.lesson.precision(), self._average.applied() if self._average else nullcontext():
                found = {f"eval_{name}": float(value) for name, value in self._validation(self.model).items()}
        metrics = of_first(found)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; the model ends as what the training gives."""
        output = super().train(*args, **kwargs)
        self._check_replayed()
        # From here on the model computes as one that was read does, not in the precision that it learnt in.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.lesson.end()
        if self._average is not None and not self.args.load_best_model_at_end:
            self._average.apply()
        return output

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """None: nobody asks for them, and counting takes a walk over all parameters in every update."""
        del inputs
        return 0

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        self._check_replayed()
        super()._save(output_dir, state_dict)
        if self._average is not None and self.args.should_save and output_dir is not None:
            self._average.save(Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._average is not None:
            self._average.load(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        load_result(self.model, Path(self.state.best_model_checkpoint))

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
                return rate_factor(self.plan, step=step, elapsed_s=self.clock.agreed_s)

            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: TokenRows | None = None) -> GroupedOrder:
        del train_dataset
        return self._order

"""Arguments: a plan in the words of Hugging Face's trainer."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from transformers import Seq2SeqTrainingArguments

from pocketseq.errors import MissingExtraError
from pocketseq_distill.precision import has_bf16
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.processes import backend, joined

_TRACKER_MODULES: Final = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",)}


def trainer_arguments(plan: TrainingPlan, state_dir: Path, *, validates: bool) -> Seq2SeqTrainingArguments:
    """Translate a plan.

    Args:
        plan: The plan.
        state_dir: Where checkpoints go.
        validates: Whether there is something to validate.

    Raises:
        MissingExtraError: a tracker that is not installed.
    """
    _check_trackers(plan)
    joined()  # before the arguments do that, who wait for half an hour at most
    on_cpu = not torch.cuda.is_available()
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(state_dir),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch_size,
        gradient_accumulation_steps=plan.accumulation,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        adam_beta2=plan.beta2,
        max_grad_norm=plan.clip_norm,
        optim="adamw_torch_fused",
        bf16=plan.bf16 and has_bf16("cpu" if on_cpu else "cuda"),
        use_cpu=on_cpu,
        ddp_backend=backend(),
        # Only a frozen encoder leaves parameters without a gradient; looking for them costs every update a walk over its graph.
        ddp_find_unused_parameters=plan.frozen_encoder_steps > 0,
        seed=plan.seed,
        # The pair of them makes every validation a checkpoint, so that the best one can be taken at the end.
        eval_strategy="steps" if validates else "no",
        eval_steps=plan.validate_every,
        save_strategy="steps",
        save_steps=plan.validate_every if validates else plan.steps,
        save_total_limit=2,
        load_best_model_at_end=validates,
        metric_for_best_model=plan.judged_by if validates else None,
        greater_is_better=True if validates else None,
        logging_steps=10,
        logging_nan_inf_filter=False,
        report_to=list(plan.report_to) or "none",
        log_level="error",
        disable_tqdm=True,
        use_cache=True,
        dataloader_pin_memory=not on_cpu,
        accelerator_config={"non_blocking": not on_cpu},  # so that a batch is made while the one before it is learnt
        remove_unused_columns=False,
    )
    if arguments.n_gpu > 1:
        # One process has one device: over several the trainer would spread copies of the model, and multiply the batch.
        arguments._n_gpu = 1
    return arguments


def _check_trackers(plan: TrainingPlan) -> None:
    for tracker in plan.report_to:
        modules = _TRACKER_MODULES[tracker]
        if not any(find_spec(module) for module in modules):
            raise MissingExtraError(tracker, modules[0])

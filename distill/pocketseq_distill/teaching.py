"""Teachers: the ones that ship beside the code, any on disk or a hub, and new ones trained from nothing."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch
from transformers import PreTrainedModel

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import RecipeError
from pocketseq.template import Template
from pocketseq.tokenizer import TextTokenizer
from pocketseq_distill.checkpoints import (
    checkpoint_fingerprint,
    copy_checkpoint,
    directory_to_write,
    find_teacher,
    read_ensemble,
    save_checkpoint,
)
from pocketseq_distill.corpus import TASKS
from pocketseq_distill.corpus.vocabulary import END_ID, PAD_ID, learn_tokenizer
from pocketseq_distill.distil import Data, hardware
from pocketseq_distill.ensemble import write_ensemble
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.rows import tokenize
from pocketseq_distill.special_ids import SpecialIds
from pocketseq_distill.students.beginnings import spellings_of
from pocketseq_distill.students.shapes import Shape, new_t5
from pocketseq_distill.teacher import TeacherSettings
from pocketseq_distill.tokenizer import read_tokenizer
from pocketseq_distill.training.averaging import blend
from pocketseq_distill.training.course import train
from pocketseq_distill.training.plan import TrainingPlan
from pocketseq_distill.training.processes import first_before_others, is_first, joined, wait_for_all
from pocketseq_distill.training.validation import HeldOutAnswers, held_out

_OF_START: Final = ("start", "start_share", "members")
"""What is told of the settings where training went on: all else was the start's."""


def card_of_corpus(run: Path, task: str) -> CheckpointCard:
    """The card of a model to be: task, template and longest answer, as the corpus of a run tells them."""
    corpus = json.loads((run / "data/corpus.json").read_text(encoding="utf-8"))
    return CheckpointCard(
        task=task,
        template=Template.from_json(corpus["template"]),
        max_new_tokens=int(corpus["max_new_tokens"]),
        license="Apache-2.0" if task in TASKS else "",
    )


def copy_teacher(source: Path, output: Path) -> CheckpointCard:
    """Put an existing teacher into a run; the copy is complete or absent.

    Raises:
        CheckpointError: it is no encoder-decoder that this project can use, or lacks the special tokens of its template; or no room
            on the disk.
    """
    card = CheckpointCard.read(source)
    read_tokenizer(source, card.template)
    with directory_to_write(output) as aside:
        copy_checkpoint(source, aside)
    return card


def new_teacher(settings: TeacherSettings, tokenizer: TextTokenizer) -> PreTrainedModel:
    """Build an untrained teacher (see ``shapes``) that reads and writes a tokenizer's tokens."""
    shape = Shape(
        encoder_layers=settings.encoder_layers,
        decoder_layers=settings.decoder_layers,
        d_model=settings.d_model,
        d_ff=settings.d_ff,
        heads=settings.heads,
    )
    return new_t5(
        shape,
        vocab_size=settings.vocab_size,
        pad_id=PAD_ID,
        end_id=END_ID,
        dropout=settings.dropout,
        spellings=spellings_of(tokenizer),
    )


def train_teachers(
    data: Data, output: Path, *, card: CheckpointCard, settings: TeacherSettings, plan: TrainingPlan, recipe_name: str = ""
) -> CheckpointCard:
    """Train as many teachers as the settings ask for, and write them as one; killed at any moment, the same call goes on.

    Args:
        data: What they learn from.
        output: Directory of the teacher, or of the ensemble, to be; members are trained in ``<output>.members``, by the plan's
            seed and those after it.
        card: See ``train_teacher``.
        settings: What to build.
        plan: How to train each.
        recipe_name: Named on their cards.

    Returns:
        The teacher's card, or the first member's.

    Raises:
        TrainingError: no rows, or a loss that is not finite.
    """
    if settings.members == 1:
        return train_teacher(data, output, card=card, settings=settings, plan=plan, recipe_name=recipe_name)
    folder, tokenizer = output.with_name(f"{output.name}.members"), output.with_name(f"{output.name}.tokenizer")
    members = [folder / str(number) for number in range(1, settings.members + 1)]
    for number, member in enumerate(members):
        seeded = replace(plan, seed=plan.seed + number)
        train_teacher(data, member, card=card, settings=settings, plan=seeded, recipe_name=recipe_name, tokenizer=tokenizer)
    if is_first():
        write_ensemble(members, output)
    wait_for_all()
    return CheckpointCard.read(output)


def train_teacher(
    data: Data,
    output: Path,
    *,
    card: CheckpointCard,
    settings: TeacherSettings,
    plan: TrainingPlan,
    recipe_name: str = "",
    tokenizer: Path | None = None,
) -> CheckpointCard:
    """Train a teacher, from nothing or on from where another stopped; killed at any moment, the same call goes on.

    Args:
        data: What it learns from.
        output: Its directory to be; the state of the training stands beside it, in ``<output>.training``, and stays there, so
            that a longer plan goes on from it.
        card: Task, template and longest answer; the rest is filled in.
        settings: What to build.
        plan: How to train it.
        recipe_name: Named on its card.
        tokenizer: Directory in which its tokenizer is learnt, where that has not happened yet; ``<output>.tokenizer`` if not given.

    Returns:
        The teacher's card.

    Raises:
        RecipeError: it is to go on from an ensemble.
        TrainingError: no rows, or a loss that is not finite.
    """
    joined()  # before a model takes a device
    start = find_teacher(settings.start) if settings.start else None
    if start and read_ensemble(start) is not None:
        raise RecipeError(
            f"[teacher]: expected one teacher as start, found an ensemble in {start}; train a member of it on, and join them again "
            "as ensemble = { members = [...] }"
        )
    folder = start or tokenizer or output.with_name(f"{output.name}.tokenizer")
    if start is None:
        with first_before_others():
            learn_tokenizer(data.train, folder, vocab_size=settings.vocab_size, template=card.template, units=settings.units)
    reader = read_tokenizer(folder, card.template)
    examples = held_out(data.validation, data.train)[: plan.validation_rows] if plan.validate_every else []
    validation = HeldOutAnswers(examples, reader, card) if examples else None
    torch.manual_seed(plan.seed)
    first = TeacherModel.load(start) if start else None
    model = first.model if first else new_teacher(settings, reader)
    special, longest = SpecialIds.of(model), card.max_new_tokens
    tokenized = tokenize(data.train, card.template, reader, end_id=special.end, max_target_tokens=longest, given=special.given)
    if is_first():
        tokenized.tell()
    began = copy.deepcopy(model) if settings.start_share else None
    trained = train(
        model,
        tokenized.rows,
        plan,
        state_dir=output.with_name(f"{output.name}.training"),
        validation=validation,
        origin=checkpoint_fingerprint(start) if start else "",
    )
    summary = trained.to_json()
    if began is not None:
        blend(model, began, share=settings.start_share)
        if validation is not None:
            summary["validations"].append({"step": trained.steps, "start_share": settings.start_share, **validation(model)})
    card = replace(
        card,
        data={"fingerprint": data.fingerprint, "rows": len(tokenized.rows), **tokenized.counts},
        recipe={
            "name": recipe_name,
            "teacher": {name: getattr(settings, name) for name in _OF_START} if first else asdict(settings),
            "teacher_train": plan.to_json(),
        },
        training={**summary, **hardware(bf16=plan.bf16)},
    )
    if first:
        before = {"data": first.card.data, "recipe": first.card.recipe, "training": first.card.training}
        card = replace(card, training={**card.training, "before": before})
    if is_first():
        save_checkpoint(model, output, card=card, tokenizer=folder)
    wait_for_all()
    return card

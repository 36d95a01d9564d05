"""Students: fewer layers copied from the teacher, as wide as it is or narrower, or a shape of their own."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from pocketseq.errors import RecipeError
from pocketseq_distill.corpus.vocabulary import END_ID, PAD_ID
from pocketseq_distill.ensemble import foundation
from pocketseq_distill.losses.matching import LayerMap, spread, stand_ins
from pocketseq_distill.rows import TokenRows
from pocketseq_distill.special_ids import SpecialIds
from pocketseq_distill.students.beginnings import begin
from pocketseq_distill.students.layers import family_of, make_student, select_layers, stack_of
from pocketseq_distill.students.pooling import pool_weights
from pocketseq_distill.students.pruning import prune_hidden, prune_width
from pocketseq_distill.students.settings import Start, StudentSettings
from pocketseq_distill.students.shapes import PRESETS, dropout_of, new_t5, with_dropout


def student_of(
    teacher: PreTrainedModel, settings: StudentSettings, rows: TokenRows, *, seed: int = 0, spellings: Sequence[str] = ()
) -> PreTrainedModel:
    """Make the student that the settings ask for.

    Args:
        teacher: An encoder-decoder of a family in ``layers.FAMILIES``, or of any for a preset; it stays as it is.
        settings: Which layers to take, and how wide, or which shape.
        rows: What a narrower student's dimensions are judged on.
        seed: Seed of what is random.
        spellings: Text of each of the student's tokens, by id, where it is known; a start from nothing is better for it.

    Raises:
        CheckpointError: a family whose layers or width cannot be chosen.
        RecipeError: layers or dimensions that the teacher does not have, a student larger than its teacher, a vocabulary of its own
            without a shape of its own, or a start that does not go with the shape.
    """
    largest = _size(teacher)  # of all members
    teacher = foundation(teacher)
    start = settings.start or ("random" if settings.preset else "copied")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = _preset(teacher, settings, start, spellings) if settings.preset else _selected(teacher, settings, rows)
        if start == "random" and not settings.preset:
            student = _renewed(student, spellings)
    if start == "pooled":
        pool_weights(student, teacher)
    if settings.dropout is not None:
        student = with_dropout(student, settings.dropout)
    SpecialIds.of(student).settle(student)
    if (size := _size(student)) > largest:
        raise RecipeError(
            f"expected a student no larger than its teacher of {largest:,} parameters, found {size:,}; "
            "take a smaller preset, fewer layers or a smaller vocab_size"
        )
    return student


def _size(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def layer_map(teacher: PreTrainedModel, settings: StudentSettings) -> LayerMap:
    """Which of the teacher's layers each of the student's stands in for (see ``matching``).

    Args:
        teacher: The teacher that the student is made from.
        settings: The student's.
    """
    teacher = foundation(teacher)
    totals = [
        teacher.config.num_hidden_layers,
        getattr(teacher.config, "num_decoder_layers", None) or teacher.config.decoder_layers,
    ]
    if settings.preset:
        shape = PRESETS[settings.preset]
        return LayerMap(spread(shape.encoder_layers, totals[0]), spread(shape.decoder_layers, totals[1]))
    encoder, decoder = _indices(teacher, settings)
    return LayerMap(stand_ins(encoder, totals[0]), stand_ins(decoder, totals[1]))


def _preset(teacher: PreTrainedModel, settings: StudentSettings, start: Start, spellings: Sequence[str]) -> PreTrainedModel:
    assert settings.preset is not None
    if start == "copied":
        raise RecipeError('[student]: expected start "pooled" or "random" with a preset, found "copied": its layers are its own')
    if settings.vocab_size is not None:
        ids = {"vocab_size": settings.vocab_size, "pad_id": PAD_ID, "end_id": END_ID}
    else:
        special = SpecialIds.of(teacher)
        ids = {"vocab_size": teacher.config.vocab_size, "pad_id": special.pad, "end_id": special.end, "start_id": special.start}
    student = new_t5(PRESETS[settings.preset], **ids, dropout=dropout_of(teacher), spellings=spellings)
    if settings.vocab_size is None:
        student.generation_config.forced_bos_token_id = special.first  # which stands before every label that it learns
    return student


def _selected(teacher: PreTrainedModel, settings: StudentSettings, rows: TokenRows) -> PreTrainedModel:
    if settings.vocab_size is not None:
        raise RecipeError("[student]: vocab_size is for a student with a preset; to cut a teacher's vocabulary use [teacher] trim")
    encoder, decoder = _indices(teacher, settings)
    student = make_student(teacher, encoder_layers=encoder, decoder_layers=decoder)
    # Dimensions are judged in the student: what a layer that is gone needed need not be kept.
    if settings.d_ff is not None:
        student = prune_hidden(student, settings.d_ff, rows)
    if settings.d_model is not None:
        student = prune_width(student, settings.d_model, rows)
    return student


def _renewed(model: PreTrainedModel, spellings: Sequence[str]) -> PreTrainedModel:
    """The same shape, with the weights that its family begins with."""
    renewed: PreTrainedModel = type(model)(copy.deepcopy(model.config))
    renewed.generation_config = copy.deepcopy(model.generation_config)
    if model.config.model_type == "t5":
        begin(renewed, spellings)  # as a teacher that is trained from nothing does
    return renewed


def _indices(teacher: PreTrainedModel, settings: StudentSettings) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The encoder and decoder layers that a student takes."""
    family = family_of(teacher)
    encoder_total, decoder_total = (len(getattr(stack_of(teacher, name), family.layers)) for name in ("encoder", "decoder"))
    encoder, decoder = settings.encoder_indices, settings.decoder_indices
    if encoder is None:
        keep = encoder_total if settings.encoder_layers is None else settings.encoder_layers
        encoder = select_layers(encoder_total, keep, settings.selection)
    if decoder is None:
        keep = 1 if settings.decoder_layers is None else settings.decoder_layers
        decoder = select_layers(decoder_total, keep, settings.selection)
    return encoder, decoder

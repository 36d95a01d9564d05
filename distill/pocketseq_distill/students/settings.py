"""Which student a recipe names: the table ``[student]``, which can be read without a training library."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias

from pocketseq.errors import RecipeError

Preset: TypeAlias = Literal["nano", "tiny", "small", "base"]
Selection: TypeAlias = Literal["spaced", "alternating"]
"""``spaced`` takes the first, the last and evenly between (Shleifer and Rush 2020, "Pre-trained Summarization Distillation");
``alternating`` takes every n-th from the first."""
Start: TypeAlias = Literal["copied", "pooled", "random"]
"""What the weights begin as: ``copied`` takes the teacher's own, ``pooled`` averages them to the student's shape (see ``pooling``),
``random`` takes nothing over."""

_OF_A_COPY: Final = ("encoder_layers", "decoder_layers", "selection", "encoder_indices", "decoder_indices", "d_ff", "d_model")
"""Settings that say what is taken of a teacher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentSettings:
    """Which of the teacher's layers a student has, or which shape of its own."""

    preset: Preset | None = None
    """A T5 of a shape that has a name (see ``shapes.PRESETS``); of the other fields only ``start``, ``vocab_size`` and ``dropout``
    then count, and the rest are refused."""
    start: Start | None = None
    """What its weights begin as; None for random ones with a preset and copied ones otherwise."""
    vocab_size: int | None = None
    """Tokens of a vocabulary of its own, learnt from its rows, for a preset; None keeps the teacher's. With its own it learns from
    the teacher's answers and from ``spans``, since distributions over other tokens cannot be compared."""
    encoder_layers: int | None = None
    """Layers of its encoder; None for all of the teacher's."""
    decoder_layers: int | None = None
    """Layers of its decoder; None for one: a shallow decoder makes every token cheap."""
    selection: Selection = "spaced"
    """How the layers are chosen."""
    encoder_indices: tuple[int, ...] | None = None
    """The encoder layers themselves, instead of their number."""
    decoder_indices: tuple[int, ...] | None = None
    """The decoder layers themselves, instead of their number."""
    d_ff: int | None = None
    """Hidden units of its feed-forward layers, those that carry most (see ``pruning``); None for all of the teacher's."""
    d_model: int | None = None
    """Its width, chosen likewise; None for the teacher's."""
    dropout: float | None = None
    """Share of its activations dropped in training; None for the teacher's. A plain student beside it keeps the teacher's."""

    def __post_init__(self) -> None:
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise RecipeError(f"[student]: expected dropout from 0 to below 1, found {self.dropout}")
        for name in ("vocab_size", "encoder_layers", "decoder_layers", "d_ff", "d_model"):
            if (found := getattr(self, name)) is not None and found < 1:
                raise RecipeError(f"[student]: expected {name} of 1 or more, found {found}")
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        if self.preset is not None and (unheard := [name for name in _OF_A_COPY if name in given]):
            raise RecipeError(
                f"[student]: expected preset = {self.preset!r}, whose shape is its own, or {' and '.join(unheard)}, found both; "
                "leave one out"
            )

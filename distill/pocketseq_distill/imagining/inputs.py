"""Inputs that nobody wrote: a reverse model draws them from answers that are known, and the teacher answers them.

On the rows that it learnt a teacher says little more than their references do. What it has learnt beyond them it says of inputs
that it has not seen, and where there are few rows a model from answers to inputs draws as many more as are wanted. Of inputs by a
reverse model Sennrich et al. 2016 ("Improving Neural Machine Translation Models with Monolingual Data") learn the known answers;
of several models in both directions Nguyen et al. 2020 ("Data Diversification: A Simple Strategy For Neural Machine Translation").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tqdm import tqdm  # type: ignore[import-untyped]

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import RecipeError
from pocketseq.examples import Example
from pocketseq.files import digest
from pocketseq.template import Field, Template
from pocketseq_distill.checkpoints import checkpoint_fingerprint
from pocketseq_distill.imagining.drawings import DrawnFile
from pocketseq_distill.labelling.labels import source_digest
from pocketseq_distill.teacher import TeacherSettings
from pocketseq_distill.training.plan import TrainingPlan

if TYPE_CHECKING:
    from pocketseq_distill.distil import Data

Skip: TypeAlias = Literal["unfinished", "known", "held_out", "repeated"]
"""Why a drawn input is left out: it came to no end or to nothing, is one of the rows', is held out, or was drawn before."""

_ANSWER: Final = "answer"
_BATCHES_A_PIECE: Final = 8
"""The reverse model sorts what it is given by length: eight batches at a time pad little, and a kill costs little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagineSettings:
    """How many inputs to imagine, and how freely."""

    draws: int = 2
    """Inputs that are drawn from the answer of each row."""
    temperature: float = 0.8
    """Above 0; the higher, the less alike they are, and the less likely."""
    batch_size: int = 256
    """Answers that go through the reverse model together."""
    bf16: bool = True
    """Compute in bfloat16 where the device has instructions for it."""

    def __post_init__(self) -> None:
        if self.draws < 1 or self.batch_size < 1 or self.temperature <= 0:
            raise RecipeError(
                f"[imagine]: expected draws and batch_size of 1 or more and a temperature above 0, found {self.draws}, "
                f"{self.batch_size} and {self.temperature}"
            )


@dataclass(frozen=True, slots=True)
class Imagined:
    """What was imagined."""

    rows: list[Example]
    """Rows with an imagined input; ``target`` is the answer that it was drawn from: near what it asks for, and no proof."""
    skipped: Mapping[Skip, int]
    """Drawn inputs that were left out, by reason."""

    def __str__(self) -> str:
        skipped = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in self.skipped.items()) or "none"
        return f"{len(self.rows)} inputs; left out: {skipped}"

    def to_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {"rows": len(self.rows), "skipped": dict(self.skipped)}


def train_reverse(
    data: Data, output: Path, *, card: CheckpointCard, settings: TeacherSettings, plan: TrainingPlan, recipe_name: str = ""
) -> CheckpointCard:
    """Train a model from answers to the primary field of inputs; killed at any moment, the same call goes on.

    Args:
        data: The rows, as a teacher learns them.
        output: See ``train_teacher``.
        card: The teacher's, to be.
        settings: The teacher's, whose sizes and units the reverse model has, those of a new teacher where none are named. It is one
            model whatever the members, and begins with nothing.
        plan: How to train it.
        recipe_name: Named on its card.

    Returns:
        The reverse model's card.

    Raises:
        TrainingError: no rows, or a loss that is not finite.
    """
    from pocketseq_distill.distil import Data
    from pocketseq_distill.teaching import train_teacher

    primary = next(field for field in card.template.fields if field.name == card.template.primary)
    # Of edits the card counts what changes; an answer is the whole text.
    longest = next((field.max_tokens for field in card.template.fields if field.name == card.template.edits), card.max_new_tokens)
    answer = Field(name=_ANSWER, max_tokens=longest, truncate="right")
    backwards = replace(
        card,
        template=Template(fields=(answer,), primary=_ANSWER, end=card.template.end),
        max_new_tokens=primary.max_tokens + 1,
    )
    turned = Data(
        train=[_turned(row, primary.name) for row in data.train if row.target.strip()],
        validation=[_turned(row, primary.name) for row in data.validation if row.target.strip()],
        fingerprint=data.fingerprint,
    )
    alone = replace(settings, members=1, start=None, start_share=0.0)
    return train_teacher(turned, output, card=backwards, settings=alone, plan=plan, recipe_name=recipe_name)


def imagine(
    rows: Sequence[Example], reverse: Path, settings: ImagineSettings, *, field: str, drawn: Path, held_out: Iterable[Example] = ()
) -> Imagined:
    """Draw inputs from the rows' answers; killed at any moment, the same call goes on.

    Args:
        rows: The rows; their other fields stand beside the imagined one as they stood beside their own.
        reverse: Checkpoint of the reverse model.
        settings: How many, and how freely.
        field: The field that is imagined.
        drawn: A JSONL file that keeps what is drawn until it is no longer needed.
        held_out: Rows whose inputs nobody may learn from, the test set among them: what is drawn alike is left out.

    Returns:
        The imagined rows, those of one answer side by side.

    Raises:
        CheckpointError: no usable reverse model.
        LabellingError: what is drawn cannot be written.
    """
    answered = [row for row in rows if row.target.strip()]
    known = {_asked(row, field) for row in rows}
    kept_apart = {_asked(row, field) for row in held_out}
    found: list[Example] = []
    skipped: Counter[Skip] = Counter()
    seen: set[str] = set()
    for row, texts in zip(answered, _draw(answered, reverse, settings, drawn), strict=True):
        for number, text in enumerate(texts, start=1):
            example = replace(row, fields={**row.fields, field: text})
            source = _asked(example, field)
            if not text.strip():
                skipped["unfinished"] += 1
            elif source in known:
                skipped["known"] += 1
            elif source in kept_apart:
                skipped["held_out"] += 1
            elif source in seen:
                skipped["repeated"] += 1
            else:
                seen.add(source)
                # Another input has another name, so that no answer to what was once imagined can stand beside it.
                found.append(replace(example, id=f"{row.id}~{number}-{source_digest(example)[:8]}"))
    return Imagined(found, skipped)


def _draw(rows: Sequence[Example], reverse: Path, settings: ImagineSettings, path: Path) -> list[list[str]]:
    """Draw from each row's answer, or read what an earlier call drew; what came to no end is empty."""
    from pocketseq_distill.generation import TeacherModel
    from pocketseq_distill.precision import products

    how = {"draws": settings.draws, "temperature": settings.temperature, "bf16": settings.bf16}
    file = DrawnFile(path, {"reverse": checkpoint_fingerprint(reverse), **how})
    keyed = {file.key(row): row for row in rows}
    found = file.open(keyed)
    missing = [key for key in keyed if key not in found]
    if missing:
        model = TeacherModel.load(reverse)
        size = max(1, settings.batch_size * _BATCHES_A_PIECE // settings.draws)
        with products(model.model.device, bf16=settings.bf16), _bar(len(keyed), len(found)) as bar:
            for begin in range(0, len(missing), size):
                piece = [(key, keyed[key]) for key in missing[begin : begin + size]]
                drawn = model.candidates(
                    [{_ANSWER: row.target} for _, row in piece],
                    settings.draws,
                    temperature=settings.temperature,
                    seeds=[int(digest([row.id, row.target]), 16) % 2**31 for _, row in piece],
                    batch_size=settings.batch_size,
                )
                texts = {
                    key: [answer.text if answer.finish_reason == "stop" else "" for answer in answers]
                    for (key, _), answers in zip(piece, drawn, strict=True)
                }
                file.append(texts)
                found |= texts
                bar.update(len(piece))
    return [found[file.key(row)] for row in rows]


def _bar(total: int, done: int) -> Any:
    return tqdm(total=total, initial=done, desc="imagine", unit="row", dynamic_ncols=True, mininterval=1.0)


def _asked(row: Example, field: str) -> str:
    """Digest of an input by which inputs are told apart: white space around the field makes no other."""
    return source_digest(replace(row, fields={**row.fields, field: row.fields[field].strip()}))


def _turned(row: Example, field: str) -> Example:
    return replace(row, fields={_ANSWER: row.target}, target=row.fields[field])

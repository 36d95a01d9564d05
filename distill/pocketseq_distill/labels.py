"""Labels: what the teacher answers to every row, appended to a file that survives a kill at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal, TypeAlias

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from pocketseq.errors import DataError
from pocketseq.examples import Example
from pocketseq.files import digest, write_json
from pocketseq.metrics import chrf
from pocketseq_distill.generation import Answer, TeacherModel

_FORMAT: Final = 1

Choice: TypeAlias = Literal["likeliest", "nearest"]
"""``likeliest`` keeps the candidate with the highest mean log-probability of its tokens, which needs no reference; ``nearest`` the
one with the highest chrF to the reference (Kim and Rush 2016, "Sequence-Level Knowledge Distillation", section 3.3)."""
_BATCHES_A_CHUNK: Final = 8
_SEED: Final = 0
"""Of the first sample; a sample's seed follows from its place in its chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """How the teacher labels."""

    rows: int | None = None
    """Rows to label, from the first; None for all."""
    beams: int = 1
    """1 labels greedily, more by beam search."""
    candidates: int = 1
    """Answers that are asked for each row, of which one is kept: the best of the beams, or samples where there is a temperature."""
    temperature: float = 0.0
    """Above 0 the candidates are drawn at this temperature."""
    choose: Choice = "likeliest"
    """Which candidate is kept."""
    batch_size: int = 64
    """Rows that go through the teacher together; a kill costs at most eight times as many."""
    max_new_tokens: int | None = None
    """Longest answer in tokens; the teacher's own if not given."""
    bf16: bool = True
    """Compute in bfloat16: twice the rows in the same time on a CPU, and another answer only where two were as good as equal."""


@dataclass(frozen=True, slots=True)
class Label:
    """The teacher's answer to one row."""

    id: str
    """Id of the row."""
    source: str
    """Digest of the row's input, so that an answer can never sit beside another row's input."""
    text: str
    """The answer, read by the template."""
    logprob: float
    """Sum of the log-probabilities of the answer's tokens."""
    finish_reason: str
    """``stop``, or ``length`` where the budget cut the answer off."""


def source_digest(example: Example) -> str:
    """Digest of what the teacher is asked."""
    return digest(dict(example.fields))


def label_rows(examples: Sequence[Example], teacher: TeacherModel, path: Path, settings: LabelSettings, *, teacher_id: str) -> int:
    """Append the teacher's answers to a file; rows that are in it already are not asked again.

    Args:
        examples: The rows.
        teacher: Answers them.
        path: A JSONL file; a sidecar beside it, ``*.meta.json``, tells whose labels these are.
        settings: How to label.
        teacher_id: Fingerprint of the teacher.

    Returns:
        How many rows were labelled now.

    Raises:
        DataError: the file holds another teacher's labels, or an answer to another input under a row's id.
    """
    wanted = examples[: settings.rows]
    meta = {
        "format": _FORMAT,
        "teacher": teacher_id,
        "beams": settings.beams,
        "candidates": settings.candidates,
        "temperature": settings.temperature,
        "choose": settings.choose,
        "max_new_tokens": settings.max_new_tokens,
        "bf16": settings.bf16,
    }
    _claim(path, meta)
    _drop_torn_line(path)
    done = read_labels(path, wanted)
    missing = [example for example in wanted if example.id not in done]
    # The teacher sorts what it is given by length: eight batches at a time pad little, and a kill costs little.
    with path.open("a", encoding="utf-8", newline="\n") as file, _bar(len(wanted), len(wanted) - len(missing)) as bar:
        for begin in range(0, len(missing), settings.batch_size * _BATCHES_A_CHUNK):
            chunk = missing[begin : begin + settings.batch_size * _BATCHES_A_CHUNK]
            with torch.autocast(teacher.model.device.type, dtype=torch.bfloat16, enabled=settings.bf16):
                found = teacher.candidates(
                    [example.fields for example in chunk],
                    settings.candidates,
                    max_new_tokens=settings.max_new_tokens,
                    beams=settings.beams,
                    temperature=settings.temperature,
                    seed=_SEED,
                    batch_size=settings.batch_size,
                )
            for example, answers in zip(chunk, found, strict=True):
                label = _label(example, choose_answer(answers, example.target, settings.choose))
                file.write(json.dumps(asdict(label), ensure_ascii=False) + "\n")
            file.flush()
            bar.update(len(chunk))
    return len(missing)


def choose_answer(answers: Sequence[Answer], reference: str, choice: Choice) -> Answer:
    """Choose one of several answers to a row; of equals the first.

    Args:
        answers: At least one.
        reference: The row's own target.
        choice: By what.
    """
    if choice == "nearest":
        return max(answers, key=lambda answer: chrf([answer.text], [reference]))
    return max(answers, key=lambda answer: fmean(answer.token_logprobs) if answer.token_logprobs else -inf)


def read_labels(path: Path, examples: Sequence[Example]) -> dict[str, Label]:
    """Read the labels of some rows.

    Args:
        path: What ``label_rows`` wrote.
        examples: The rows; labels of others are passed over.

    Returns:
        Labels by id of the row.

    Raises:
        DataError: a malformed line, or an answer to another input than the row with its id has.
    """
    sources = {example.id: source_digest(example) for example in examples}
    labels: dict[str, Label] = {}
    for number, value in _lines(path):
        try:
            label = Label(**value)
        except TypeError as error:
            raise DataError(f"{path}:{number}: expected a label: {error}") from None
        if label.id not in sources:
            continue
        if label.source != sources[label.id]:
            raise DataError(
                f"{path}:{number}: expected the answer to row {label.id!r} with the input {sources[label.id]}, "
                f"found one to {label.source}; the data changed under the labels: remove the file and label again"
            )
        labels[label.id] = label
    return labels


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: expected one JSON object a line: {error}") from None


def _claim(path: Path, meta: Mapping[str, Any]) -> None:
    """Write down whose labels these are, or check it."""
    sidecar = path.with_suffix(".meta.json")
    if not path.exists():
        write_json(sidecar, meta)
        return
    try:
        found = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != meta:
        raise DataError(f"{path}: expected labels made with {meta}, found {found}; remove the file to label again")


def _drop_torn_line(path: Path) -> None:
    """Cut off what a kill left of a line."""
    if path.exists():
        with path.open("r+b") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)


def _label(example: Example, answer: Answer) -> Label:
    return Label(
        id=example.id,
        source=source_digest(example),
        text=answer.text,
        logprob=round(sum(answer.token_logprobs), 4),
        finish_reason=answer.finish_reason,
    )


def _bar(total: int, done: int) -> Any:
    return tqdm(total=total, initial=done, desc="label", unit="row", dynamic_ncols=True, mininterval=1.0)

"""Labels are appended, resumed and bound to the input that they answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketseq.errors import DataError, InputError
from pocketseq.template import Input
from pocketseq_distill.generation import Answer, TeacherModel
from pocketseq_distill.labels import LabelSettings, choose_answer, label_rows, read_labels

from .models import repair_examples

EXAMPLES = repair_examples(10)
SETTINGS = LabelSettings(batch_size=1, bf16=False)


class Power(TeacherModel):
    """A real teacher that counts what it is asked, and may lose power while it answers."""

    asked: int = 0
    dies_after: int | None = None

    def candidates(self, inputs: Sequence[Input], count: int, **settings: Any) -> list[list[Answer]]:
        if self.dies_after is not None and self.asked >= self.dies_after:
            raise KeyboardInterrupt
        self.asked += len(inputs)
        return super().candidates(inputs, count, **settings)


@pytest.fixture
def teacher(teacher_path: Path) -> Power:
    return Power.load(teacher_path)  # type: ignore[return-value]


def test_labels_are_what_the_teacher_answers(teacher: Power, tmp_path: Path) -> None:
    """In the order of the rows, with the log-probability of the whole answer."""
    path = tmp_path / "labels.jsonl"
    assert label_rows(EXAMPLES, teacher, path, SETTINGS, teacher_id="t") == 10
    labels = read_labels(path, EXAMPLES)
    answers = teacher.answer([example.fields for example in EXAMPLES])
    assert list(labels) == [example.id for example in EXAMPLES]
    for label, answer in zip(labels.values(), answers, strict=True):
        assert (label.text, label.finish_reason) == (answer.text, answer.finish_reason)
        assert label.logprob == pytest.approx(sum(answer.token_logprobs), abs=1e-3)


@pytest.mark.parametrize("torn", [b"", b'{"id": "0-8", "sour'])
def test_an_interrupted_labelling_goes_on(teacher: Power, tmp_path: Path, torn: bytes) -> None:
    """Rows in the file are not asked again, and what a kill left of a line is cut off."""
    path = tmp_path / "labels.jsonl"
    teacher.dies_after = 8
    with pytest.raises(KeyboardInterrupt):
        label_rows(EXAMPLES, teacher, path, SETTINGS, teacher_id="t")
    with path.open("ab") as file:
        file.write(torn)
    teacher.dies_after = None
    assert label_rows(EXAMPLES, teacher, path, SETTINGS, teacher_id="t") == 2
    assert teacher.asked == 10
    whole = tmp_path / "whole.jsonl"
    label_rows(EXAMPLES, teacher, whole, SETTINGS, teacher_id="t")
    assert path.read_bytes() == whole.read_bytes()


def test_a_limit_labels_the_first_rows(teacher: Power, tmp_path: Path) -> None:
    """More rows later go on behind them."""
    path = tmp_path / "labels.jsonl"
    assert label_rows(EXAMPLES, teacher, path, replace(SETTINGS, rows=4), teacher_id="t") == 4
    assert label_rows(EXAMPLES, teacher, path, SETTINGS, teacher_id="t") == 6


def test_labels_of_another_teacher_are_refused(teacher: Power, tmp_path: Path) -> None:
    """They are not mixed; the message says whose they are."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES, teacher, path, SETTINGS, teacher_id="one")
    with pytest.raises(DataError, match=r"expected labels made with .*'other'.*found .*'one'.*remove the file"):
        label_rows(EXAMPLES, teacher, path, SETTINGS, teacher_id="other")


def test_an_answer_never_sits_beside_another_input(teacher: Power, tmp_path: Path) -> None:
    """A row that changed under its id is found by the hash of its input, with file and line."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES, teacher, path, SETTINGS, teacher_id="t")
    changed = [EXAMPLES[0], replace(EXAMPLES[1], fields={"line": "another", "after": ""}), *EXAMPLES[2:]]
    with pytest.raises(DataError, match=r"labels\.jsonl:2: expected the answer to row '0-1' with the input"):
        read_labels(path, changed)


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    """File and line."""
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"id": "0-0"}) + "\n")
    with pytest.raises(DataError, match=r"labels\.jsonl:1: expected a label"):
        read_labels(path, EXAMPLES)


def answer(text: str, *logprobs: float) -> Answer:
    return Answer(
        text=text, tokens=(5,) * len(logprobs), token_logprobs=logprobs, finish_reason="stop", truncated=(), prompt_tokens=1
    )


def test_the_likeliest_candidate_is_so_by_token_and_not_by_length() -> None:
    """Two tokens of −0.5 beat one of −0.8."""
    answers = [answer("short", -0.8), answer("longer", -0.5, -0.5), answer("nothing")]
    assert choose_answer(answers, "reference", "likeliest").text == "longer"


def test_the_nearest_candidate_is_the_one_like_the_reference() -> None:
    """However unlikely the teacher thought it."""
    answers = [answer("return value", -0.1), answer("return values", -3.0)]
    assert choose_answer(answers, "return values", "nearest").text == "return values"


def test_candidates_of_beams_and_of_samples_are_asked_for(teacher: Power, tmp_path: Path) -> None:
    """Of three beams' best the nearest may be another than the first; samples are the same at every call."""
    best = teacher.candidates([EXAMPLES[0].fields], 3, beams=3)[0]
    assert len({found.tokens for found in best}) == 3
    first = teacher.answer([EXAMPLES[0].fields], beams=3)[0]
    assert best[0].tokens == first.tokens
    settings = replace(SETTINGS, candidates=4, temperature=1.0, choose="nearest")
    for name in ("one", "two"):
        label_rows(EXAMPLES, teacher, tmp_path / f"{name}.jsonl", settings, teacher_id="t")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_more_candidates_than_beams_are_refused(teacher: Power, tmp_path: Path) -> None:
    """A search has no more answers than it follows."""
    with pytest.raises(InputError, match="found 4 answers and 2 beams; or sample them"):
        label_rows(EXAMPLES, teacher, tmp_path / "labels.jsonl", replace(SETTINGS, candidates=4, beams=2), teacher_id="t")

"""Inputs that a reverse model imagines: new ones alone, bound to the answer that they were drawn from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.distill.disk import room_for

from pocketseq.checkpoint import CheckpointCard
from pocketseq.errors import LabellingError, RecipeError
from pocketseq.examples import Example
from pocketseq.pipeline import Recipe
from pocketseq.template import Field, Template
from pocketseq_distill.distil import Data
from pocketseq_distill.generation import Answer, TeacherModel
from pocketseq_distill.imagining.inputs import Imagined, ImagineSettings, imagine, train_reverse
from pocketseq_distill.imagining.stage import IMAGINE
from pocketseq_distill.teacher import TeacherSettings
from pocketseq_distill.training.plan import TrainingPlan

LETTERS = "abcdef"
TEMPLATE = Template(fields=(Field(name="word", max_tokens=4), Field(name="after", max_tokens=4)), primary="word")
CARD = CheckpointCard(task="shout", template=TEMPLATE, max_new_tokens=6)
SETTINGS = ImagineSettings(draws=6, temperature=1.5, batch_size=7)


def shouted(words: list[str]) -> list[Example]:
    """Words of two letters, in capitals."""
    return [Example(id=word, fields={"word": word, "after": "x"}, target=word.upper(), source=f"list:{word}") for word in words]


WORDS = [one + other for one in LETTERS for other in LETTERS]
ROWS = shouted(WORDS[::2])


@pytest.fixture(scope="module")
def reverse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model from capitals to letters that ends its answers, and is far from sure of them."""
    output = tmp_path_factory.mktemp("reverse") / "reverse"
    settings = TeacherSettings(
        units="characters", vocab_size=300, d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1, members=3
    )
    plan = TrainingPlan(steps=150, batch_size=18, warmup_steps=5, optimizer="muon", learning_rate=2e-2, schedule="linear")
    train_reverse(Data(train=ROWS, validation=[], fingerprint="words"), output, card=CARD, settings=settings, plan=plan)
    return output


@pytest.fixture(scope="module")
def imagined(reverse: Path, tmp_path_factory: pytest.TempPathFactory) -> Imagined:
    return imagine(ROWS, reverse, SETTINGS, field="word", drawn=tmp_path_factory.mktemp("imagined") / "drawn.jsonl")


def test_the_reverse_model_goes_from_answers_to_the_primary_field(reverse: Path) -> None:
    """One model, whatever the teacher's members, with a template of its own."""
    card = CheckpointCard.read(reverse)
    assert [field.name for field in card.template.fields] == ["answer"]
    assert card.max_new_tokens == 5
    assert card.recipe["teacher"]["members"] == 1
    assert not (reverse / "ensemble.json").exists()
    assert TeacherModel.load(reverse).answer(["AB"])[0].finish_reason == "stop"


def test_what_is_imagined_is_new(imagined: Imagined) -> None:
    """No input of the rows, and none twice; what was drawn and left out is counted."""
    found = [row.fields["word"] for row in imagined.rows]
    assert len(found) >= 10
    assert len(set(found)) == len(found)
    assert set(found).isdisjoint(row.fields["word"] for row in ROWS)
    assert len(found) + sum(imagined.skipped.values()) == 6 * len(ROWS)
    assert imagined.skipped["known"] > 0


def test_what_is_held_out_is_not_imagined(imagined: Imagined, reverse: Path, tmp_path: Path) -> None:
    """A student that learns an answer to it, be it the teacher's, could not be judged by it."""
    apart = [replace(row, id="apart", target="?") for row in imagined.rows[:3]]
    others = imagine(ROWS, reverse, SETTINGS, field="word", drawn=tmp_path / "drawn.jsonl", held_out=apart)
    assert [row.id for row in others.rows] == [row.id for row in imagined.rows[3:]]
    assert others.skipped["held_out"] >= 3


def test_an_imagined_input_keeps_what_it_was_drawn_from(imagined: Imagined) -> None:
    """Its answer, its other fields and its source are those of the row; its name is its own."""
    rows = {row.id: row for row in ROWS}
    for row in imagined.rows:
        origin = rows[row.id.partition("~")[0]]
        assert row.fields["after"] == "x"
        assert (row.target, row.source) == (origin.target, origin.source)
    assert len({row.id for row in imagined.rows}) == len(imagined.rows)


def test_what_is_drawn_depends_on_the_row_alone(imagined: Imagined, reverse: Path, tmp_path: Path) -> None:
    """Neither on the batch nor on what else is asked, so that the work can be shared."""
    words = {row.id: row.fields["word"] for row in imagined.rows}
    some = imagine(ROWS[5:9], reverse, replace(SETTINGS, batch_size=2), field="word", drawn=tmp_path / "drawn.jsonl")
    shared = [row for row in some.rows if row.id in words]
    assert shared
    assert all(words[row.id] == row.fields["word"] for row in shared)


def test_another_input_has_another_name(imagined: Imagined, reverse: Path, tmp_path: Path) -> None:
    """Labels are kept by name: an answer to what was imagined before must not stand beside what is imagined now."""
    before = {row.id: row.fields["word"] for row in imagined.rows}
    others = imagine(ROWS, reverse, replace(SETTINGS, temperature=3.0), field="word", drawn=tmp_path / "drawn.jsonl").rows
    assert {row.fields["word"] for row in others} != set(before.values())
    assert all(before[row.id] == row.fields["word"] for row in others if row.id in before)


def test_rows_without_an_answer_imagine_nothing(reverse: Path, tmp_path: Path) -> None:
    """There is nothing to draw from."""
    assert imagine([replace(ROWS[0], target=" ")], reverse, SETTINGS, field="word", drawn=tmp_path / "drawn.jsonl").rows == []


@pytest.mark.parametrize("given", [{"draws": 0}, {"temperature": 0.0}, {"batch_size": 0}])
def test_settings_that_draw_nothing_are_refused(given: dict[str, float]) -> None:
    """The message says what was found."""
    with pytest.raises(RecipeError, match=r"\[imagine\]: expected draws and batch_size of 1 or more and a temperature above 0"):
        ImagineSettings(**given)  # type: ignore[arg-type]


def test_white_space_makes_no_other_input(imagined: Imagined, reverse: Path, tmp_path: Path) -> None:
    """What is held out with spaces around it is held out without them, and what is drawn stays as it was drawn."""
    first = imagined.rows[0]
    apart = [replace(first, id="apart", fields={**first.fields, "word": f"  {first.fields['word']} "})]
    others = imagine(ROWS, reverse, SETTINGS, field="word", drawn=tmp_path / "drawn.jsonl", held_out=apart)
    assert [row.id for row in others.rows] == [row.id for row in imagined.rows[1:]]


def test_a_reverse_model_reads_whole_answers_where_a_teacher_writes_edits(tmp_path: Path) -> None:
    """The longest edit says nothing of the longest text."""
    template = replace(TEMPLATE, fields=(Field(name="word", max_tokens=40),), edits="word")
    settings = TeacherSettings(vocab_size=300, d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1, start="nowhere")
    card = replace(CARD, template=template, max_new_tokens=5)
    rows = Data(train=[replace(row, fields={"word": row.fields["word"]}) for row in ROWS], validation=[], fingerprint="words")
    train_reverse(rows, tmp_path / "reverse", card=card, settings=settings, plan=TrainingPlan(steps=1, batch_size=4))
    (answer,) = CheckpointCard.read(tmp_path / "reverse").template.fields
    assert answer.max_tokens == 40


def test_what_a_teacher_may_cost_imagines_nothing_anew() -> None:
    """A larger budget leaves the reverse model and its inputs as they are; another shape does not."""

    def inputs(**teacher: Any) -> Any:
        return IMAGINE.inputs(Recipe("tiny", "shout", "", {"teacher": teacher, "imagine": {}}, ""), Path("run"))

    endpoint = {"url": "http://localhost/v1", "model": "some", "budget": {"requests": 10}}
    assert inputs(d_model=64, endpoint=endpoint) == inputs(d_model=64, endpoint={**endpoint, "budget": {"requests": 20}})
    assert inputs(d_model=64) != inputs(d_model=32)
    assert "teacher" not in IMAGINE.sections


class Asked:
    """A reverse model's draws, written down, with an end to its power."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[str] = []
        self.pieces = 100
        candidates = TeacherModel.candidates

        def draw(model: TeacherModel, inputs: Sequence[Mapping[str, str]], *given: Any, **more: Any) -> list[list[Answer]]:
            if not self.pieces:
                raise KeyboardInterrupt
            self.pieces -= 1
            self.answers += [one["answer"] for one in inputs]
            return candidates(model, inputs, *given, **more)

        monkeypatch.setattr(TeacherModel, "candidates", draw)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.mark.parametrize("torn", [b"", b'{"key": "0-8", "te'])
def test_an_interrupted_imagining_goes_on(imagined: Imagined, reverse: Path, asked: Asked, tmp_path: Path, torn: bytes) -> None:
    """From each answer is drawn once, what a kill left of a line is cut off, and what comes out is what one call imagines."""
    drawn = tmp_path / "drawn.jsonl"
    settings = replace(SETTINGS, batch_size=4)  # five rows a piece
    asked.pieces = 2
    with pytest.raises(KeyboardInterrupt):
        imagine(ROWS, reverse, settings, field="word", drawn=drawn)
    assert len(asked.answers) == 10
    drawn.write_bytes(drawn.read_bytes() + torn)
    asked.pieces = 100
    found = imagine(ROWS, reverse, settings, field="word", drawn=drawn)
    assert asked.answers == [row.target for row in ROWS]
    assert (found.rows, found.skipped) == (imagined.rows, imagined.skipped)


def test_what_was_drawn_in_another_way_is_drawn_anew(imagined: Imagined, reverse: Path, asked: Asked, tmp_path: Path) -> None:
    """By another model, freely otherwise, or from another answer; and so is a damaged line, alone."""
    drawn = tmp_path / "drawn.jsonl"
    imagine(ROWS, reverse, replace(SETTINGS, temperature=3.0), field="word", drawn=drawn)
    asked.answers.clear()
    assert imagine(ROWS, reverse, SETTINGS, field="word", drawn=drawn).rows == imagined.rows
    assert asked.answers == [row.target for row in ROWS]
    asked.answers.clear()
    lines = drawn.read_bytes().splitlines(keepends=True)
    drawn.write_bytes(b"".join([lines[0].replace(b'"texts": ["', b'"texts": ["z'), *lines[1:]]))
    assert imagine(ROWS, reverse, SETTINGS, field="word", drawn=drawn).rows == imagined.rows
    assert asked.answers == [ROWS[0].target]
    asked.answers.clear()
    imagine([replace(ROWS[0], target="FF"), *ROWS[1:]], reverse, SETTINGS, field="word", drawn=drawn)
    assert asked.answers == ["FF"]
    asked.answers.clear()
    other = tmp_path / "reverse"
    shutil.copytree(reverse, other)
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    imagine(ROWS, other, SETTINGS, field="word", drawn=drawn)
    assert asked.answers == [row.target for row in ROWS]


def test_a_full_disk_loses_nothing_of_what_was_drawn(imagined: Imagined, reverse: Path, tmp_path: Path) -> None:
    """The error says that the same call goes on, and it does."""
    drawn = tmp_path / "drawn.jsonl"
    settings = replace(SETTINGS, batch_size=4)
    with room_for(1500), pytest.raises(LabellingError, match=r"what was drawn so far is whole: make room"):
        imagine(ROWS, reverse, settings, field="word", drawn=drawn)
    kept = drawn.read_bytes()
    assert kept.endswith(b"\n")
    assert imagine(ROWS, reverse, settings, field="word", drawn=drawn).rows == imagined.rows
    assert drawn.read_bytes().startswith(kept)
    assert len(drawn.read_bytes().splitlines()) == len(ROWS)

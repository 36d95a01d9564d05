"""Labels are appended, resumed and bound to the input that they answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.distill.disk import room_for
from tests.distill.models import repair_examples

from pocketseq.errors import DataError, InputError, LabellingError, RecipeError, TeacherError
from pocketseq.files import write_json
from pocketseq_distill.generation import TeacherModel
from pocketseq_distill.labelling.checkpoint import CheckpointTeacher
from pocketseq_distill.labelling.function import FunctionTeacher
from pocketseq_distill.labelling.labels import LabelSettings, fitting_file, label_rows, read_labels, unlabelled
from pocketseq_distill.labelling.store import LabelFile
from pocketseq_distill.labelling.teacher import Asking, Candidate, Question, Reply

EXAMPLES = repair_examples(10)
SETTINGS = LabelSettings(batch_size=1, bf16=False)


class Power(CheckpointTeacher):
    """A real teacher that counts what it is asked, and may lose power while it answers."""

    asked: int = 0
    dies_after: int | None = None

    def ask(self, questions: Sequence[Question], how: Asking) -> list[Reply]:
        if self.dies_after is not None and self.asked >= self.dies_after:
            raise KeyboardInterrupt
        self.asked += len(questions)
        return super().ask(questions, how)


@pytest.fixture
def teacher(teacher_path: Path) -> Power:
    return Power(teacher_path)


def shout(rows: Sequence[Mapping[str, str]]) -> list[str | list[str | Candidate] | None]:
    """A teacher of three kinds of answers: several, one, and none."""
    return [[f"{row['line']}!", f"{row['line']}?", f"{row['line']}!"] for row in rows]


def test_labels_are_what_the_teacher_answers(teacher: Power, teacher_path: Path, tmp_path: Path) -> None:
    """In the order of the rows, with the log-probability of the whole answer."""
    path = tmp_path / "labels.jsonl"
    assert label_rows(EXAMPLES, teacher, path, SETTINGS).now == 10
    labels = read_labels(path, EXAMPLES)
    answers = TeacherModel.load(teacher_path).answer([example.fields for example in EXAMPLES])
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
        label_rows(EXAMPLES, teacher, path, SETTINGS)
    with path.open("ab") as file:
        file.write(torn)
    teacher.dies_after = None
    report = label_rows(EXAMPLES, teacher, path, SETTINGS)
    assert (report.now, report.total, report.damaged) == (2, 10, 0)
    assert teacher.asked == 10
    whole = tmp_path / "whole.jsonl"
    label_rows(EXAMPLES, teacher, whole, SETTINGS)
    assert path.read_bytes() == whole.read_bytes()


def test_a_limit_labels_the_first_rows(teacher: Power, tmp_path: Path) -> None:
    """More rows later go on behind them; a row that comes twice is labelled once."""
    path = tmp_path / "labels.jsonl"
    assert label_rows(EXAMPLES, teacher, path, replace(SETTINGS, rows=4)).now == 4
    assert [example.id for example in unlabelled([*EXAMPLES, EXAMPLES[5]], path, teacher, SETTINGS)] == [
        row.id for row in EXAMPLES[4:]
    ]
    assert label_rows([*EXAMPLES, EXAMPLES[5]], teacher, path, SETTINGS).now == 6


def test_labels_of_another_teacher_are_refused(teacher: Power, tmp_path: Path) -> None:
    """They are not mixed; the message says whose they are."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    with pytest.raises(DataError, match=rf"expected labels made with .*, found .*'{teacher.id}'.*remove the file"):
        label_rows(EXAMPLES, FunctionTeacher(shout), path, SETTINGS)
    with pytest.raises(DataError, match=r"expected labels made with {'beams': 2}, found {'beams': 1}; label into another file"):
        label_rows(EXAMPLES, teacher, path, replace(SETTINGS, beams=2))
    assert len(read_labels(path, EXAMPLES, teacher_id=teacher.id)) == 10
    with pytest.raises(DataError, match=r"expected labels of the teacher another, .* learn from the labels alone"):
        read_labels(path, EXAMPLES, teacher_id="another")


def test_a_dry_run_refuses_what_a_labelling_would(teacher: Power, tmp_path: Path) -> None:
    """Lest a count of no rows is told of another teacher's labels; of damaged lines, those rows alone are counted."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    with pytest.raises(DataError, match=r"expected labels made with {'teacher': "):
        unlabelled(EXAMPLES, path, FunctionTeacher(shout), SETTINGS)
    first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([first.replace('"text": "', '"text": "x'), *rest]), encoding="utf-8")
    assert unlabelled(EXAMPLES, path, teacher, SETTINGS) == [EXAMPLES[0]]


@pytest.mark.parametrize("content", [None, "{"], ids=["missing", "damaged"])
def test_labels_of_which_nothing_tells_whose_they_are_are_left_alone(teacher: Power, tmp_path: Path, content: str | None) -> None:
    """They may have been paid for: the file that should tell is named, and nothing is written."""
    path, sidecar = tmp_path / "labels.jsonl", tmp_path / "labels.meta.json"
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    before, told = path.read_bytes(), sidecar.read_text(encoding="utf-8")
    if content is None:
        sidecar.unlink()
    else:
        sidecar.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.meta\.json: expected whose labels .* put it back"):
        label_rows(EXAMPLES, teacher, path, SETTINGS)
    assert path.read_bytes() == before
    sidecar.write_text(told, encoding="utf-8")
    assert label_rows(EXAMPLES, teacher, path, SETTINGS).now == 0


def test_labels_that_do_not_fit_are_set_aside_and_come_back(teacher: Power, tmp_path: Path) -> None:
    """Nothing that a run once had labelled is asked again, whatever its recipe said in between."""
    path, beams = tmp_path / "labels.jsonl", replace(SETTINGS, beams=2)
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    before = path.read_bytes()
    (aside,) = fitting_file(path, teacher, beams)
    (kept,) = tmp_path.glob("labels.????????????????.jsonl")
    assert "labels.jsonl: its labels are of another teacher or other settings, made with {'beams': 1}, not {'beams': 2}" in aside
    assert f"kept as {kept}" in aside
    assert label_rows(EXAMPLES, teacher, path, beams).now == 10
    assert fitting_file(path, teacher, beams) == []
    _, back = fitting_file(path, teacher, SETTINGS)
    assert back.endswith(f"are back, from {kept}")
    assert path.read_bytes() == before
    fitting_file(path, teacher, beams)
    assert label_rows(EXAMPLES, teacher, path, beams).now == 0


def test_labels_are_not_set_aside_while_another_process_appends_to_them(teacher: Power, tmp_path: Path) -> None:
    """It would go on under the old name, among the labels of another teacher."""
    path, claim = tmp_path / "labels.jsonl", SETTINGS.claim(teacher.id, None)
    label_rows(EXAMPLES[:1], teacher, path, SETTINGS)
    before = path.read_bytes()
    with LabelFile(path).claimed(claim), pytest.raises(LabellingError, match="found another process at work"):
        fitting_file(path, teacher, replace(SETTINGS, beams=2))
    assert path.read_bytes() == before
    assert LabelFile(path).teacher_id == teacher.id


@pytest.mark.parametrize("step", range(4))
def test_a_kill_while_labels_are_renamed_costs_none(
    teacher: Power, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """At no step between two files do labels stand under a name that nothing tells whose they are."""
    path, beams = tmp_path / "labels.jsonl", replace(SETTINGS, beams=2)
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    before = path.read_bytes()
    for settings in (beams, SETTINGS):  # aside, and back
        with monkeypatch.context() as patch:
            steps = iter(range(step))

            def dying(change: Callable[..., object], steps: Iterator[int] = steps) -> Callable[..., object]:
                def changed(*args: object, **more: object) -> object:
                    if next(steps, None) is None:
                        raise KeyboardInterrupt
                    return change(*args, **more)

                return changed

            for name in ("replace", "unlink"):
                patch.setattr(Path, name, dying(getattr(Path, name)))
            with pytest.raises(KeyboardInterrupt):
                fitting_file(path, teacher, settings)
        fitting_file(path, teacher, settings)
        assert label_rows(EXAMPLES, teacher, path, settings).now == (10 if settings == beams else 0)
    assert path.read_bytes() == before


def test_a_run_leaves_labels_alone_of_which_nothing_tells_whose_they_are(teacher: Power, tmp_path: Path) -> None:
    """Under another name they would be bought again."""
    path, sidecar = tmp_path / "labels.jsonl", tmp_path / "labels.meta.json"
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    before = path.read_bytes()
    sidecar.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.meta\.json: expected whose labels .* put it back"):
        fitting_file(path, teacher, SETTINGS)
    assert {file.name for file in tmp_path.glob("labels*")} == {path.name, sidecar.name}
    assert path.read_bytes() == before


def test_an_answer_never_sits_beside_another_input(teacher: Power, tmp_path: Path) -> None:
    """A row that changed under its id is found by the hash of its input, with file and line; so are two rows of one id."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    other = replace(EXAMPLES[1], fields={"line": "another", "after": ""})
    with pytest.raises(DataError, match=r"labels\.jsonl:2: expected the answer to row '0-1' with the input"):
        read_labels(path, [EXAMPLES[0], other, *EXAMPLES[2:]])
    with pytest.raises(DataError, match="found two inputs under the id '0-1'"):
        label_rows([*EXAMPLES, other], teacher, path, SETTINGS)


def test_a_damaged_line_is_found_and_its_row_asked_again_alone(teacher: Power, tmp_path: Path) -> None:
    """By the digest of the line, though it is JSON still; whoever only reads is told where it is."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    whole = path.read_bytes().splitlines(keepends=True)
    flipped = whole[3].replace(b'"text": "', b'"text": "x', 1)
    path.write_bytes(b"".join([*whole[:3], flipped, *whole[4:6], b"\x00\xff\n", b"[" * 100_000 + b"\n", *whole[8:]]))
    with pytest.raises(DataError, match=r"labels\.jsonl:4: expected a label with the digest .* damaged; label again"):
        read_labels(path, EXAMPLES)
    report = label_rows(EXAMPLES, teacher, path, SETTINGS)
    assert (report.now, report.total, report.damaged) == (3, 10, 3)
    assert "3 damaged lines were asked again" in str(report)
    assert teacher.asked == 13
    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(whole)


@pytest.mark.parametrize("checked", [True, False], ids=["of this version", "of an older one"])
def test_a_line_that_names_half_a_character_is_damaged(teacher: Power, tmp_path: Path, checked: bool) -> None:
    """JSON can spell what is no text: its row is asked again like any other's."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[3]["text"] = "\ud800"
    if not checked:
        del lines[3]["check"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.jsonl:4: expected a label: .*surrogates not allowed; label again"):
        read_labels(path, EXAMPLES)
    report = label_rows(EXAMPLES, teacher, path, SETTINGS)
    assert (report.now, report.damaged) == (1, 1)


def test_half_a_character_does_not_cost_the_answer(tmp_path: Path) -> None:
    """Nor what failed, its words: an emoji that a budget cut in two is no text, and could not be written down."""

    class Cut(FunctionTeacher):
        def ask(self, questions: Sequence[Question], how: Asking) -> list[Reply]:
            answers = (Candidate(text="fine \ud83d", finish_reason="length"), Candidate(text="\ude00\U0001f600"))
            failed = Reply(failure="malformed", why="it said \udfff")
            return [failed if question.fields == EXAMPLES[0].fields else Reply(answers, why="\ud83d") for question in questions]

    path = tmp_path / "labels.jsonl"
    report = label_rows(EXAMPLES, Cut(shout), path, replace(SETTINGS, candidates=3, keep=2, choose="nearest"))
    assert (report.now, report.missed) == (9, 1)
    assert report.samples["malformed"][0]["why"] == "it said \ufffd"
    label = read_labels(path, EXAMPLES)[EXAMPLES[1].id]
    assert {label.text, label.others[0].text} == {"fine \ufffd", "\ufffd\U0001f600"}
    assert label.fewer == "2 of 3 answers came (\ufffd)"


@pytest.mark.parametrize("part", [{"fields": {"line": "\ud800", "after": ""}}, {"id": "\ud800"}], ids=["fields", "id"])
def test_a_row_that_is_no_text_is_refused_before_the_teacher_is_asked(teacher: Power, tmp_path: Path, part: dict[str, Any]) -> None:
    """Its label could not be written."""
    rows = [*EXAMPLES[:2], replace(EXAMPLES[2], **part)]
    with pytest.raises(DataError, match=r"^row .*: expected Unicode text as id and fields, found a lone surrogate; decode"):
        label_rows(rows, teacher, tmp_path / "labels.jsonl", SETTINGS)
    assert teacher.asked == 0


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    """File and line; no file at all is said too."""
    path = tmp_path / "labels.jsonl"
    with pytest.raises(DataError, match=r"labels\.jsonl: expected a file of labels, found none; label the rows first"):
        read_labels(path, EXAMPLES)
    path.write_text(json.dumps({"id": "0-0"}) + "\n")
    with pytest.raises(DataError, match=r"labels\.jsonl:1: expected a label"):
        read_labels(path, EXAMPLES)


def test_labels_of_the_first_version_are_still_read(teacher: Power, tmp_path: Path) -> None:
    """Their lines carry no digest of their own."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES, teacher, path, SETTINGS)
    labels = read_labels(path, EXAMPLES)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert set(lines[0]) == {"id", "source", "text", "logprob", "finish_reason", "check"}
    path.write_text("".join(json.dumps({name: line[name] for name in line if name != "check"}) + "\n" for line in lines))
    assert read_labels(path, EXAMPLES) == labels
    assert label_rows(EXAMPLES, teacher, path, SETTINGS).now == 0


def test_a_disk_that_is_full_leaves_whole_lines(teacher: Power, tmp_path: Path) -> None:
    """A write that fails half-way is taken back and named; with room again the same call goes on."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES[:3], teacher, path, SETTINGS)
    kept = path.read_bytes()
    words = r"labels\.jsonl: expected a place that can be written, found: .*File too large; the labels so far are whole"
    with room_for(len(kept) + 50), pytest.raises(LabellingError, match=words):
        label_rows(EXAMPLES, teacher, path, SETTINGS)
    assert path.read_bytes() == kept
    assert label_rows(EXAMPLES, teacher, path, SETTINGS).total == 10
    assert path.read_bytes().startswith(kept)


def test_two_processes_never_append_to_one_file(teacher: Power, tmp_path: Path) -> None:
    """The second is told, before it asks the teacher."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES[:1], teacher, path, SETTINGS)
    with (
        LabelFile(path).claimed(SETTINGS.claim(teacher.id, None)),
        pytest.raises(LabellingError, match="found another process at work"),
    ):
        label_rows(EXAMPLES, teacher, path, SETTINGS)
    assert teacher.asked == 1


def test_two_processes_that_begin_a_file_at_once_are_kept_apart_too(teacher: Power, tmp_path: Path) -> None:
    """Either may write whose labels they are before the other: that file is replaced, and is no lock."""
    path, claim = tmp_path / "labels.jsonl", SETTINGS.claim(teacher.id, None)
    with LabelFile(path).claimed(claim):
        write_json(path.with_suffix(".meta.json"), {"format": 1, **claim})
        with pytest.raises(LabellingError, match="found another process at work"):
            label_rows(EXAMPLES, teacher, path, SETTINGS)
    assert teacher.asked == 0


def test_candidates_of_beams_and_of_samples_are_asked_for(teacher: Power, tmp_path: Path) -> None:
    """Of three beams' best the nearest may be another than the first; a row's samples are its own, whatever is asked beside it."""
    best = teacher.model.candidates([EXAMPLES[0].fields], 3, beams=3)[0]
    assert len({found.tokens for found in best}) == 3
    first = teacher.model.answer([EXAMPLES[0].fields], beams=3)[0]
    assert best[0].tokens == first.tokens
    settings = replace(SETTINGS, candidates=4, temperature=1.0, choose="nearest")
    label_rows(EXAMPLES, teacher, tmp_path / "all.jsonl", settings)
    label_rows(EXAMPLES[6:], teacher, tmp_path / "some.jsonl", settings)
    some, every = (read_labels(tmp_path / f"{name}.jsonl", EXAMPLES) for name in ("some", "all"))
    assert {name: every[name] for name in some} == some


def test_many_answers_to_a_row_can_be_kept(tmp_path: Path) -> None:
    """The best first, each unlike those before it."""
    path = tmp_path / "labels.jsonl"
    label_rows(EXAMPLES, FunctionTeacher(shout), path, replace(SETTINGS, candidates=3, keep=3, choose="nearest"))
    label = read_labels(path, EXAMPLES)["0-0"]
    texts = [label.text, *(other.text for other in label.others)]
    assert sorted(texts) == [f"{EXAMPLES[0].fields['line']}!", f"{EXAMPLES[0].fields['line']}?"]


def test_more_candidates_than_beams_are_refused(teacher: Power, tmp_path: Path) -> None:
    """A search has no more answers than it follows."""
    with pytest.raises(InputError, match="found 4 answers and 2 beams; or sample them"):
        label_rows(EXAMPLES, teacher, tmp_path / "labels.jsonl", replace(SETTINGS, candidates=4, beams=2))


def test_the_nearest_answer_needs_references(tmp_path: Path) -> None:
    """Where no row has one, that is said before the teacher is asked; one row that has one makes the others' empty ones true."""
    path, rows = tmp_path / "labels.jsonl", [replace(example, target="") for example in EXAMPLES]
    settings, teacher = replace(SETTINGS, candidates=3, choose="nearest"), FunctionTeacher(shout)
    words = r"expected references to choose the nearest of 3 answers by, found 10 rows without; choose = \"likeliest\" needs none"
    for refuses in (label_rows, unlabelled):
        with pytest.raises(RecipeError, match=words):
            refuses(rows, *((teacher, path) if refuses is label_rows else (path, teacher)), settings)
    assert not path.exists()
    assert label_rows([*rows[:9], EXAMPLES[9]], teacher, path, settings).now == 10
    assert label_rows(rows, teacher, tmp_path / "one.jsonl", replace(settings, candidates=1)).now == 10


def test_a_teacher_that_skips_a_question_is_found(tmp_path: Path) -> None:
    """Whoever writes a teacher of their own hears of it before a label is misplaced."""

    class Short:
        id = "short"
        concurrency = 0

        def ask(self, questions: Sequence[Question], how: Asking) -> list[Reply]:
            return [Reply((Candidate(text="x"),))] * (len(questions) - 1)

        def close(self) -> None:
            pass

    with pytest.raises(TeacherError, match="expected 8 replies, one for each question, found 7"):
        label_rows(EXAMPLES, Short(), tmp_path / "labels.jsonl", SETTINGS)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rows": -1}, "expected rows of 1 or more, found -1"),
        ({"beams": 0}, "expected beams of 1 or more, found 0"),
        ({"temperature": -1.0}, "expected temperature of 0 or more, found -1"),
        ({"reverse_weight": float("nan")}, "expected reverse_weight of 0 or more, found nan"),
        ({"keep": 2}, "expected to keep at most the 1 candidates, found keep = 2"),
        ({"choose": "reverse"}, "expected a reverse model"),
        ({"processes": 2, "ray_workers": 2}, "expected processes or ray_workers, found both"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(wrong: dict[str, object], words: str) -> None:
    """In words, before a model is loaded."""
    with pytest.raises(RecipeError, match=words):
        replace(SETTINGS, **wrong)

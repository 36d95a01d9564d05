"""What is told of a labelling: rows without a whole answer, with samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.distill.models import repair_examples

from pocketseq_distill.labelling.function import FunctionTeacher
from pocketseq_distill.labelling.labels import LabelSettings, label_rows, read_labels
from pocketseq_distill.labelling.teacher import Candidate

EXAMPLES = repair_examples(10)
SETTINGS = LabelSettings(batch_size=10)


def test_answers_that_are_none_are_counted_with_samples(tmp_path: Path) -> None:
    """Empty, unfinished and refused ones are labels, so that they are not asked again, and visible."""
    given = ["", "  ", None, Candidate(text="half", finish_reason="length"), *["right"] * 6]
    path = tmp_path / "labels.jsonl"
    teacher = FunctionTeacher(lambda rows: given)
    report = label_rows(EXAMPLES, teacher, path, SETTINGS)
    assert report.odd == {"empty": 2, "refused": 1, "cut": 1}
    assert str(report) == "10 rows labelled now, 10 in all (2 empty, 1 refused, 1 cut)"
    assert report.to_json()["samples"]["cut"] == [{"id": "0-3", "why": "half"}]
    assert label_rows(EXAMPLES, teacher, path, SETTINGS).now == 0


def test_what_is_no_whole_answer_is_counted_over_all_calls(tmp_path: Path) -> None:
    """Those before a kill are there still in what the call that ends the labelling says, with their samples."""
    path = tmp_path / "labels.jsonl"
    given = ["", None, Candidate(text="half", finish_reason="length"), "right"]
    teacher = FunctionTeacher(lambda rows: given[: len(rows)], fingerprint="odd")
    label_rows(EXAMPLES[:4], teacher, path, SETTINGS)
    report = label_rows(EXAMPLES[:5], teacher, path, SETTINGS)
    assert (report.now, report.total, report.missed) == (1, 5, 0)
    assert report.odd == {"empty": 2, "refused": 1, "cut": 1}
    assert [sample["id"] for sample in report.samples["empty"]] == ["0-0", "0-4"]
    assert label_rows(EXAMPLES[:2], teacher, path, SETTINGS).odd == {"empty": 1, "refused": 1}


def test_rows_with_fewer_answers_than_were_asked_for_are_counted(tmp_path: Path) -> None:
    """They are labels, and visible; the file itself says which they are."""
    path, settings = tmp_path / "labels.jsonl", replace(SETTINGS, candidates=4, keep=4, choose="nearest")
    teacher = FunctionTeacher(lambda rows: [list("abcd") if row["line"] == EXAMPLES[0].fields["line"] else "x" for row in rows])
    report = label_rows(EXAMPLES, teacher, path, settings)
    assert report.odd == {"fewer": 9}
    assert report.samples["fewer"][0] == {"id": "0-1", "why": "1 of 4 answers came"}
    labels = read_labels(path, EXAMPLES)
    assert (labels["0-0"].fewer, labels["0-1"].fewer) == (None, "1 of 4 answers came")
    assert label_rows(EXAMPLES, teacher, path, settings).odd == {"fewer": 9}

"""What the stage ``label`` leaves in a run, and how it is asked again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pocketseq.examples import read_examples
from pocketseq.pipeline import Recipe, Stage, run_recipe
from pocketseq_distill import stages
from pocketseq_distill.labelling.stage import label

from .conftest import Scripted, said


def test_rows_that_a_teacher_did_not_answer_are_asked_by_the_next_run(
    run: Path, script: Callable[..., Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    """What follows is made anew if an answer came, and only then; that they are asked again is said."""
    given: dict[str, tuple[int, dict[str, object]]] = {}
    server = script(lambda body, number: given.get(body["messages"][-1]["content"], (400, {"error": {"message": "not now"}})))
    endpoint = {"url": f"http://127.0.0.1:{server.server.server_port}/v1", "model": "m", "prompt": "{line}", "concurrency": 1}
    tables = {"teacher": {"endpoint": endpoint}, "label": {"rows": 6}, "filter": {"wrong": "reference", "unlabelled": "reference"}}
    recipe = Recipe(name="tiny", task="repair", description="", tables=tables, text="")
    rows = list(read_examples(run / "data/train.jsonl"))[:6]
    given |= {row.fields["line"]: said("fine") for row in rows[:4]}
    chain = [
        Stage("teacher", after=(), run=lambda recipe, run: None, sections={"teacher": "pocketseq_distill.teacher:TeacherSettings"}),
        replace(stages.LABEL, after=("teacher",)),
        replace(stages.FILTER, after=("label",)),
        Stage("train", after=("filter",), run=lambda recipe, run: None),
    ]

    def runs() -> list[str]:
        lines: list[str] = []
        run_recipe(recipe, run, stages=chain, report=lines.append)
        return [line.split("] ")[1].split(": ")[0] for line in lines if ": done" in line]

    assert runs() == ["teacher", "label", "filter", "train"]
    counts = json.loads((run / "labels/train.counts.json").read_text())
    assert (counts["total"], counts["missed"], counts["odd"]) == (4, 2, {"unavailable": 2})
    assert "2 rows have no answer: run the recipe again to ask them again" in capsys.readouterr().err
    assert json.loads((run / "filtered/counts.json").read_text())["references"] == 24
    asked = len(server.bodies)
    assert runs() == []
    assert len(server.bodies) == asked + 2
    given[rows[4].fields["line"]] = said(rows[4].target)
    assert runs() == ["filter", "train"]
    assert json.loads((run / "filtered/counts.json").read_text())["references"] == 23
    given[rows[5].fields["line"]] = said("fine")
    assert runs() == ["filter", "train"]
    asked = len(server.bodies)
    assert runs() == []
    assert len(server.bodies) == asked


def test_a_run_says_that_labels_are_put_aside_and_asked_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They were perhaps paid for: their old name and their new one, before anything is asked."""

    def recipe(beams: int) -> Recipe:
        tables = {"label": {"rows": 2, "bf16": False, "beams": beams}}
        return Recipe(name="tiny", task="repair", description="", tables=tables, text="")

    label(recipe(1), run)
    assert "kept as" not in capsys.readouterr().err
    label(recipe(2), run)
    (aside,) = (run / "labels").glob("train.????????????????.jsonl")
    said = capsys.readouterr().err
    assert f"{run / 'labels/train.jsonl'}: its labels are of another teacher or other settings, made with {{'beams': 1}}" in said
    assert f"kept as {aside}" in said
    label(recipe(1), run)
    assert f"are back, from {aside}" in capsys.readouterr().err

"""Processes that share the rows: each row is labelled once, and no kill loses more than what was under way."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.distill.models import repair_examples

from pocketseq.errors import LabellingError, TeacherError
from pocketseq.examples import write_examples
from pocketseq_distill.labelling.checkpoint import CheckpointTeacher
from pocketseq_distill.labelling.function import FunctionTeacher
from pocketseq_distill.labelling.labels import LabelSettings, label_rows, read_labels
from pocketseq_distill.labelling.teacher import Asking, Question

NAME = "tests.distill.labelling.answers"
LOG = "POCKETSEQ_TEST_LOG"
EXAMPLES = repair_examples(40)
SETTINGS = LabelSettings(batch_size=2, processes=2)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the processes note what they were asked."""
    path = tmp_path / "asked.txt"
    monkeypatch.setenv(LOG, str(path))
    return path


def teacher(name: str) -> FunctionTeacher:
    return FunctionTeacher(f"{NAME}:{name}")


def test_two_processes_share_the_rows(log: Path, tmp_path: Path) -> None:
    """Both are asked, each row once, and the labels are those of one process."""
    report = label_rows(EXAMPLES, teacher("slow"), tmp_path / "two.jsonl", SETTINGS)
    assert (report.now, report.total) == (40, 40)
    asked = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert len(asked) == 40
    assert len({process for process, _ in asked}) == 2
    assert str(os.getpid()) not in {process for process, _ in asked}
    label_rows(EXAMPLES, teacher("slow"), tmp_path / "one.jsonl", LabelSettings())
    one, two = (read_labels(tmp_path / f"{name}.jsonl", EXAMPLES) for name in ("one", "two"))
    assert one == two


def test_each_process_has_an_accelerator_of_its_own(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take turns at those that there are; left alone, all would crowd onto the first."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    label_rows(EXAMPLES, teacher("device"), tmp_path / "labels.jsonl", SETTINGS)
    assert {label.text for label in read_labels(tmp_path / "labels.jsonl", EXAMPLES).values()} == {"2", "5"}


def test_a_killed_worker_leaves_labels_that_go_on(log: Path, tmp_path: Path) -> None:
    """What it had in hand is lost, what the others had is not; the same call asks for the rest only."""
    path = tmp_path / "labels.jsonl"
    with pytest.raises(LabellingError, match="found one that ended with signal SIGKILL; what was labelled is kept"):
        label_rows(EXAMPLES, teacher("deadly"), path, SETTINGS)
    before = len(read_labels(path, EXAMPLES))
    assert 0 < before < 40
    report = label_rows(EXAMPLES, teacher("deadly"), path, SETTINGS)
    assert (report.now, report.total) == (40 - before, 40)
    assert len(path.read_text().splitlines()) == 40


def test_what_goes_wrong_in_a_process_is_told_here(tmp_path: Path) -> None:
    """With the words of the teacher's own error."""
    with pytest.raises(TeacherError, match="answers:broken: expected answers to 2 rows, found ZeroDivisionError: by the teacher"):
        label_rows(EXAMPLES, teacher("broken"), tmp_path / "labels.jsonl", SETTINGS)


def test_an_error_costs_only_the_piece_that_it_came_of(log: Path, tmp_path: Path) -> None:
    """What the other process has in hand is finished and kept, and nothing more is begun."""
    path, rows = tmp_path / "labels.jsonl", [replace(EXAMPLES[0], fields={"line": "broken", "after": ""}), *EXAMPLES[1:]]
    with pytest.raises(TeacherError, match="found ZeroDivisionError: by the teacher"):
        label_rows(rows, teacher("picky"), path, replace(SETTINGS, batch_size=1))
    assert len(read_labels(path, rows)) == len(log.read_text().splitlines()) > 0


def test_a_teacher_that_cannot_travel_is_refused(tmp_path: Path) -> None:
    """A function without a name cannot be found by another process."""
    with pytest.raises(TeacherError, match="expected a teacher that other processes can load too, found: .*one process"):
        label_rows(EXAMPLES, FunctionTeacher(lambda rows: ["x"] * len(rows)), tmp_path / "labels.jsonl", SETTINGS)


PROGRAM = f"""
import signal, sys
from pathlib import Path
from pocketseq.examples import read_examples
from pocketseq_distill.labelling.function import FunctionTeacher
from pocketseq_distill.labelling.teacher import Asking, Question
from pocketseq_distill.labelling.labels import LabelSettings, label_rows
signal.signal(signal.SIGINT, signal.default_int_handler)
rows, path = map(Path, sys.argv[1:])
try:
    label_rows(list(read_examples(rows)), FunctionTeacher("{NAME}:slow"), path, LabelSettings(batch_size=1, processes=2))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_ending_a_labelling_ends_its_workers(log: Path, tmp_path: Path, ending: signal.Signals) -> None:
    """After Ctrl-C as after a kill the labels are whole, no process is left, and the same call goes on."""
    rows, path = tmp_path / "rows.jsonl", tmp_path / "labels.jsonl"
    write_examples(rows, EXAMPLES)
    command = [sys.executable, "-c", PROGRAM, str(rows), str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and not (path.exists() and path.stat().st_size):
        time.sleep(0.02)
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)  # as a terminal does
    else:
        process.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if ending == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in errors
    workers = {int(line.split()[0]) for line in log.read_text().splitlines()}
    for _ in range(500):
        if not any(_alive(worker) for worker in workers):
            break
        time.sleep(0.02)
    assert not any(_alive(worker) for worker in workers)
    done = len(read_labels(path, EXAMPLES))
    assert 0 < done < 40
    assert label_rows(EXAMPLES, teacher("slow"), path, SETTINGS).now == 40 - done


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_checkpoint_travels_as_its_path(teacher_path: Path) -> None:
    """Weights are not sent; what was loaded here is loaded there anew, and answers alike."""
    here = CheckpointTeacher(teacher_path)
    questions = [Question(example.fields) for example in EXAMPLES[:3]]
    found = here.ask(questions, Asking(bf16=False))
    packed = pickle.dumps(here)
    assert len(packed) < 500
    there = pickle.loads(packed)
    assert there.id == here.id
    assert there.ask(questions, Asking(bf16=False)) == found

"""Rows shared by the workers of a Ray cluster, here one that is started on this machine."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distill.models import repair_examples

from pocketseq.errors import LabellingError, MissingExtraError, TeacherError
from pocketseq_distill.labelling import cluster
from pocketseq_distill.labelling.function import FunctionTeacher
from pocketseq_distill.labelling.labels import LabelSettings, label_rows, read_labels

NAME = "tests.distill.labelling.answers"
EXAMPLES = repair_examples(30)
SETTINGS = LabelSettings(batch_size=3, ray_workers=2)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def ray_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of this machine, whose workers find the teacher's module; ended afterwards."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # it is looked at when Ray is imported
    import ray

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own threads, which a warning that is an error would end
@pytest.mark.usefixtures("ray_here")
def test_ray_workers_share_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is asked once, an earlier call's rows are not asked again, and the labels are those of one process."""
    path = tmp_path / "ray.jsonl"
    teacher = FunctionTeacher(f"{NAME}:upper")
    label_rows(EXAMPLES[:6], teacher, path, LabelSettings(batch_size=3))
    assert label_rows(EXAMPLES, teacher, path, SETTINGS).now == 24
    assert len(path.read_text().splitlines()) == 30
    label_rows(EXAMPLES, teacher, tmp_path / "one.jsonl", LabelSettings())
    assert read_labels(path, EXAMPLES) == read_labels(tmp_path / "one.jsonl", EXAMPLES)
    with pytest.raises(TeacherError, match="on every Ray worker, found TeacherError: .*broken.*by the teacher"):
        label_rows(EXAMPLES, FunctionTeacher(f"{NAME}:broken"), tmp_path / "broken.jsonl", SETTINGS)


def test_what_ray_still_runs_for_a_call_is_waited_for() -> None:
    """A thread that asks Ray for something after its shutdown would end the process."""
    ended: list[str] = []

    def work() -> None:
        time.sleep(0.2)
        ended.append(threading.current_thread().name)

    for name in ("StreamingExecutor-1", "iter_threaded"):
        threading.Thread(target=work, name=name, daemon=True).start()
    cluster._await_threads()
    assert sorted(ended) == ["StreamingExecutor-1", "iter_threaded"]


def test_a_missing_ray_ends_in_its_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a teacher is loaded."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "pocketseq\[cluster\]"'):
        label_rows(EXAMPLES, FunctionTeacher(f"{NAME}:upper"), tmp_path / "labels.jsonl", SETTINGS)


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_cannot_be_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the address that was given, in Ray's words."""
    ray = pytest.importorskip("ray")

    def unreachable(**_: object) -> None:
        raise ConnectionError("nobody at that address\nand more")

    monkeypatch.setattr(ray, "init", unreachable)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    words = r"a Ray cluster at RAY_ADDRESS = 127\.0\.0\.1:1, found: nobody at that address; start it, change RAY_ADDRESS"
    with pytest.raises(LabellingError, match=words):
        label_rows(EXAMPLES, FunctionTeacher(f"{NAME}:upper"), tmp_path / "labels.jsonl", SETTINGS)
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(LabellingError, match="a Ray cluster that can be started on this machine, found: nobody"):
        label_rows(EXAMPLES, FunctionTeacher(f"{NAME}:upper"), tmp_path / "labels.jsonl", SETTINGS)


def test_ray_is_told_to_report_nothing_unless_the_user_said_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is imported: it looks once."""
    monkeypatch.setitem(sys.modules, "ray", None)
    for given, kept in ((None, "0"), ("1", "1")):
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
        if given is not None:
            monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", given)
        with pytest.raises(MissingExtraError):
            label_rows(EXAMPLES, FunctionTeacher(f"{NAME}:upper"), tmp_path / "labels.jsonl", SETTINGS)
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == kept

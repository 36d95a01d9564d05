"""Fixtures of the distillation tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pocketseq.examples import write_examples
from pocketseq.files import write_json

from .models import FAMILIES, MakeModel, make_checkpoint, repair_examples


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=sorted(FAMILIES))
def make_model(request: pytest.FixtureRequest) -> MakeModel:
    """Each family in turn."""
    return FAMILIES[request.param]


@pytest.fixture(scope="session")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher on disk; nobody writes into it."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "teacher")


@pytest.fixture
def run(teacher_path: Path, tmp_path: Path) -> Path:
    """A run directory after the stages ``corpus`` and ``teacher``."""
    for seed, split in enumerate(("train", "validation", "test")):
        write_examples(tmp_path / f"data/{split}.jsonl", repair_examples(24, seed=seed))
    write_json(tmp_path / "data/corpus.json", {"fingerprint": "abc"})
    shutil.copytree(teacher_path, tmp_path / "teacher")
    return tmp_path

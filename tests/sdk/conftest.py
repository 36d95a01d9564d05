"""A tiny bundle and model, made once for all tests of the SDK."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketseq.model import PocketModel
from pocketseq.testing import scripted_model
from pocketseq.tokenizer import TextTokenizer

from .tiny import EDITS, make_tokenizer, write_bundle


@pytest.fixture(scope="session")
def pristine_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle directory, not to be changed."""
    directory = tmp_path_factory.mktemp("bundles") / "tiny"
    write_bundle(directory)
    return directory


@pytest.fixture
def bundle_directory(pristine_bundle: Path, tmp_path: Path) -> Path:
    """A bundle directory of the test's own."""
    return Path(shutil.copytree(pristine_bundle, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def edits_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with three fields that answers with edits, not to be changed."""
    directory = tmp_path_factory.mktemp("bundles") / "tiny-edits"
    write_bundle(directory, template=EDITS, precisions=("fp32",))
    return directory


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    """The tiny bundle's tokenizer."""
    return TextTokenizer(make_tokenizer())


@pytest.fixture(scope="session")
def model(pristine_bundle: Path) -> Iterator[PocketModel]:
    """The tiny bundle, loaded."""
    with PocketModel.load(pristine_bundle) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def letters() -> PocketModel:
    """A model with one token a byte that repeats its input."""
    return scripted_model({})

"""The façade: every public name is there, sorted, and costs nothing before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import pocketseq

# What importing may not bring, for each alone would cost more than the package itself.
SLOW = {"numpy", "onnxruntime", "tokenizers", "openai", "httpx", "huggingface_hub", "torch", "transformers", "onnx", "asyncio"}


@pytest.mark.parametrize("name", pocketseq.__all__)
def test_every_name_can_be_had(name: str) -> None:
    """By attribute, and listed by dir()."""
    assert getattr(pocketseq, name) is not None
    assert name in dir(pocketseq)


def test_the_names_that_type_checkers_see_are_the_names_that_there_are() -> None:
    """The imports for type checkers, the table of homes and __all__ say the same."""
    tree = ast.parse(Path(pocketseq.__file__).read_text(encoding="utf-8"))
    [checking] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in checking.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {name: f"pocketseq.{home}" for home, names in pocketseq._HOMES.items() for name in names}
    assert sorted(seen) == sorted(pocketseq.__all__)
    assert len(set(pocketseq.__all__)) == len(pocketseq.__all__)
    for name, home in seen.items():
        assert getattr(import_module(str(home)), name) is getattr(pocketseq, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'pocketseq' has no attribute 'Pocket'"):
        _ = pocketseq.Pocket  # type: ignore[attr-defined]


def test_importing_brings_nothing_slow() -> None:
    """A fresh process that imports the package holds none of its libraries yet."""
    code = f"import sys, pocketseq; print(sorted({SLOW!r} & set(sys.modules)), pocketseq.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] 0.")


@pytest.mark.parametrize("package", ["pocketseq.runtimes", "pocketseq.testing", "pocketseq.cli"])
def test_the_packages_inside_only_export_what_they_have(package: str) -> None:
    """Each with a sorted __all__."""
    module = import_module(package)
    assert list(module.__all__) == sorted(module.__all__, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(module, name) for name in module.__all__)

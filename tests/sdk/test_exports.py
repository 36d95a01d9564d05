"""The façade: every public name is there, sorted, and costs nothing before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import pocketseq
import pocketseq.decoding

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


# What a plain suggestion does without: other ways to decode, the cloud, other runtimes, other rooms.
UNUSED = {
    *("asyncio", "concurrent.futures", "email", "http", "logging", "ssl", "tempfile", "zipfile"),
    *("importlib.metadata", "llguidance", "openai", "opentelemetry", "psutil", "ai_edge_litert"),
    *(f"pocketseq.decoding.{name}" for name in ("beams", "drafts", "grammar", "rules", "scoring")),
    *(f"pocketseq.{name}" for name in ("asynchronous", "batching", "calibration", "hybrid", "privacy", "streaming", "telemetry")),
    *("pocketseq.archive", "pocketseq.runtimes.coreml", "pocketseq.runtimes.litert"),
}


def test_a_suggestion_brings_nothing_that_it_does_not_need() -> None:
    """A fresh process that has answered once holds no search, no grammar, no cloud and no other runtime."""
    code = (
        "import sys; from pocketseq import PocketModel; model = PocketModel.load('python-fix', runtime='onnx'); "
        f"print(model.generate('retrun x').text); print(sorted({UNUSED!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["return x", "[]"]


def test_the_command_line_brings_no_event_loop_and_looks_for_no_other_commands() -> None:
    """``pocketseq suggest`` is one of its own commands, and blocks."""
    code = (
        "import sys; from pocketseq.cli import main; main(['suggest', 'retrun x']); "
        "print(sorted({'asyncio', 'ssl', 'openai', 'importlib.metadata', 'pocketseq.decoding.beams'} & set(sys.modules)))"
    )
    # Without site packages of the application's own: OpenTelemetry, where it is installed, looks for its plug-ins.
    script = f"import sys; sys.modules['opentelemetry'] = None; {code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["return x", "[]"]


def test_names_that_come_later_are_those_of_their_modules() -> None:
    """Of the packages that import some of their names when they are first used; none of these is also a module's."""
    for package in (pocketseq, pocketseq.decoding):
        for home, names in package._HOMES.items():
            module = import_module(f"{package.__name__}.{home}")
            for name in names:
                assert getattr(package, name) is getattr(module, name)
                assert find_spec(f"{package.__name__}.{name}") is None


@pytest.mark.parametrize("package", ["pocketseq.runtimes", "pocketseq.testing", "pocketseq.cli"])
def test_the_packages_inside_only_export_what_they_have(package: str) -> None:
    """Each with a sorted __all__: constants, classes, functions."""
    module = import_module(package)
    assert list(module.__all__) == sorted(module.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert all(hasattr(module, name) for name in module.__all__)

"""A Mac for tests: coremltools' own ``MLModel``, ``CompiledMLModel`` and ``MLState``, on the interpreter in Core ML's place."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import coremltools
import numpy as np
import pytest
from coremltools.models import _compiled_model, model, utils
from tests.coreml.interpreter import SavedFunction

from pocketseq.runtimes import compiled, macos

UNITS = {"ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"}


class StateProxy:
    """In the place of Core ML's MLState: arrays by name, all of which is float16."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self.arrays = arrays

    def read_state(self, name: str) -> Any:
        return self.arrays[name].copy()

    def write_state(self, name: str, value: Any) -> None:
        assert value.shape == self.arrays[name].shape
        self.arrays[name] = value.astype(np.float16).astype(np.float32)


class ModelProxy:
    """In the place of coremltools' binding of Core ML's MLModel."""

    half = True
    compilations: list[str] = []

    def __init__(self, path: str, compute_units: str, function_name: str, hints: Any, asset: Any) -> None:
        assert compute_units in UNITS
        found = Path(path)
        data = found if found.suffix == ".mlmodelc" else found / "Data" / "com.apple.CoreML"
        self._function = SavedFunction(data / "model.mlmodel", function_name or "main", half=self.half)

    @classmethod
    def compileModel(cls, path: str) -> str:
        cls.compilations.append(path)
        compiled = Path(tempfile.mkdtemp()) / "model.mlmodelc"
        shutil.copytree(Path(path) / "Data" / "com.apple.CoreML", compiled)
        return str(compiled)

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return 9

    def newState(self) -> StateProxy:
        return StateProxy(self._function.new_state())

    def predict(self, data: dict[str, Any], state: StateProxy | None = None) -> dict[str, Any]:
        assert all(value.dtype in (np.int32, np.float32) for value in data.values()), "the binding takes int32 and float32"
        return self._function.run(data, None if state is None else state.arrays)


def pretend_mac(monkeypatch: pytest.MonkeyPatch, folder: Path, *, version: str = "15.1", half: bool = True) -> type[ModelProxy]:
    """Let this process take itself for a Mac of that version, whose Core ML is the interpreter and whose caches are in a folder:
    the user's own would be written to and, on a Mac, answer in the interpreter's place.
    """

    class Proxy(ModelProxy):
        compilations: list[str] = []

    Proxy.half = half
    monkeypatch.setattr(compiled, "CACHES", folder / "caches")
    binding = ModuleType("coremltools.libcoremlpython")
    binding._MLModelProxy = Proxy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "coremltools.libcoremlpython", binding)
    numbers = tuple(int(part) for part in version.split("."))
    for module in (_compiled_model, model, utils):
        monkeypatch.setattr(module, "_MLModelProxy", Proxy, raising=False)
        monkeypatch.setattr(module, "_macos_version", lambda: numbers, raising=False)
        monkeypatch.setattr(module, "_is_macos", lambda: True, raising=False)
    monkeypatch.setattr(
        macos, "platform", SimpleNamespace(system=lambda: "Darwin", mac_ver=lambda: (version, ("", "", ""), "arm64"))
    )
    assert coremltools.models.CompiledMLModel is _compiled_model.CompiledMLModel
    return Proxy

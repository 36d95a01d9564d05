"""Core ML programs on disk: compiled once, kept among the user's caches, opened by coremltools."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from pocketseq.errors import BundleFormatError, RuntimeUnavailableError
from pocketseq.files import sha256
from pocketseq.manifest import Geometry
from pocketseq.runtimes.macos import macos_version
from pocketseq.runtimes.protocol import Floats

CACHES: Final = Path("~/Library/Caches/pocketseq/coreml")
"""Where macOS wants what can be made anew."""
INPUTS: Final = {"encode": {"ids"}, "step": {"token", "position", "cross", "source_mask"}}
OUTPUTS: Final = {"encode": {"cross", "pooled"}, "step": {"logits", "logsumexp", "new"}}
CACHE: Final = "cache"
"""Name of the state, or of the input in its place."""


@dataclass(frozen=True, slots=True)
class CompiledPrograms:
    """Both programs, loaded, and the sizes that they were written for."""

    models: Mapping[str, Any]
    """``CompiledMLModel`` of ``encode`` and of ``step``."""
    stateful: bool
    """Whether Core ML keeps the cache."""
    source_lengths: tuple[int, ...]
    """Lengths that a source may be padded to, rising."""
    cache_shape: tuple[int, ...]
    """(2 × layers, heads, longest target, head_dim)."""

    @property
    def target_tokens(self) -> int:
        """Tokens that the cache holds."""
        return self.cache_shape[2]

    def encode(self, feeds: Mapping[str, Any]) -> dict[str, Floats]:
        """Run ``encode``."""
        return self._run("encode", feeds, None)

    def step(self, feeds: Mapping[str, Any], state: Any) -> dict[str, Floats]:
        """Run ``step``; it changes the state."""
        return self._run("step", feeds, state)

    def new_state(self, values: Floats) -> Any:
        """A state that holds these values; None where the programs have none."""
        if not self.stateful:
            return None
        state = self.models["step"].make_state()
        if values.any():
            state.write_state(CACHE, values)
        return state

    def _run(self, name: str, feeds: Mapping[str, Any], state: Any) -> dict[str, Floats]:
        found = self.models[name].predict(dict(feeds), state)
        return {output: np.asarray(found[output], dtype=np.float32) for output in OUTPUTS[name]}


def open_programs(
    files: Mapping[str, Path], geometry: Geometry, *, compute_units: str, folder: Path | None = None
) -> CompiledPrograms:
    """Compile a package where that has not been done, hold it against the contract, and load it.

    Args:
        files: The package's files, by path within the bundle.
        geometry: Sizes of the model.
        compute_units: Name of a ``coremltools.ComputeUnit``.
        folder: Keeps what was compiled; None is ``CACHES``.

    Raises:
        BundleFormatError: a file is missing, or the programs have other inputs and outputs than the contract.
        RuntimeUnavailableError: Core ML refuses the package.
    """
    import coremltools as ct

    models = {PurePosixPath(path).stem: file for path, file in files.items() if path.endswith(".mlmodel")}
    weights = next((file for path, file in files.items() if path.endswith("weights/weight.bin")), None)
    stateful = set(models) == {"model"}
    if weights is None or not (stateful or set(models) == {"encode", "step"}):
        raise BundleFormatError(
            f"expected a package with one model or with encode and step, and their weights, found {sorted(files)}; "
            "export the bundle again"
        )
    described = {name: _description(models["model" if stateful else name], name) for name in ("encode", "step")}
    cache_shape = _check(described, geometry, stateful=stateful)
    try:
        units = ct.ComputeUnit[compute_units]
    except KeyError:
        known = ", ".join(unit.name for unit in ct.ComputeUnit)
        raise RuntimeUnavailableError(f"expected compute units among {known}, found {compute_units!r}") from None
    try:
        compiled = {name: _compiled(file, weights, folder) for name, file in models.items()}
        loaded = {
            name: ct.models.CompiledMLModel(
                str(compiled["model" if stateful else name]), compute_units=units, function_name=name if stateful else None
            )
            for name in described
        }
    except Exception as error:  # coremltools raises plain exceptions, and what the system says comes as RuntimeError
        raise RuntimeUnavailableError(
            f"expected a package that Core ML compiles and loads, found: {error}; update macOS or coremltools, or export it again"
        ) from error
    (ids,) = described["encode"].input
    shapes = [list(choice.shape) for choice in ids.type.multiArrayType.enumeratedShapes.shapes] or [ids.type.multiArrayType.shape]
    return CompiledPrograms(
        models=loaded, stateful=stateful, source_lengths=tuple(sorted(shape[1] for shape in shapes)), cache_shape=cache_shape
    )


def _description(file: Path, function: str) -> Any:
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's error moved between its versions
        raise BundleFormatError(f"{file}: expected a Core ML model, found: {error}; export the bundle again") from error
    return next((each for each in spec.description.functions if each.name == function), spec.description)


def _check(described: Mapping[str, Any], geometry: Geometry, *, stateful: bool) -> tuple[int, ...]:
    """Hold the programs against the contract; gives the shape of the cache."""
    step = described["step"]
    for name, description in described.items():
        inputs = INPUTS[name] | ({CACHE} if name == "step" and not stateful else set())
        found = {item.name for item in description.input}, {item.name for item in description.output}
        if found[0] != inputs or found[1] != OUTPUTS[name]:
            raise BundleFormatError(
                f"{name}: expected inputs {sorted(inputs)} and outputs {sorted(OUTPUTS[name])}, found {sorted(found[0])} and "
                f"{sorted(found[1])}; export the bundle again"
            )
    types = {item.name: item.type.stateType.arrayType for item in step.state} if stateful else {}
    types |= {item.name: item.type.multiArrayType for item in step.input}
    shape = tuple(types[CACHE].shape) if CACHE in types else ()
    expected = (2 * geometry.decoder_layers, geometry.heads, geometry.head_dim)
    if len(shape) != 4 or (shape[0], shape[1], shape[3]) != expected:
        raise BundleFormatError(
            f"step: expected a cache of {expected} and the target's length, found {shape}; export the bundle again"
        )
    return shape


def _compiled(model: Path, weights: Path, folder: Path | None) -> Path:
    """Path of the compiled model, which another system or another content would have elsewhere."""
    from coremltools import __version__
    from coremltools.models.utils import compile_model

    system = ".".join(map(str, macos_version() or ()))
    key = hashlib.sha256(" ".join((sha256(model), sha256(weights), system, __version__)).encode()).hexdigest()[:32]
    place = _writable(folder) / f"{key}.mlmodelc"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{key}.") as work:
            aside = Path(work, "compiled.mlmodelc")
            compile_model(str(_package(model, weights, Path(work, "program.mlpackage"))), str(aside))
            try:
                aside.rename(place)
            except OSError:  # another process was first
                if not place.exists():
                    raise
    return place


def _writable(folder: Path | None) -> Path:
    """The folder, or a new one for this process where it cannot be written."""
    wanted = (folder or CACHES).expanduser()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if os.access(wanted, os.W_OK):
            return wanted
    except OSError:
        pass
    made = tempfile.mkdtemp(prefix="pocketseq-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def _package(model: Path, weights: Path, package: Path) -> Path:
    """A package of one model and its weights, copied out of a bundle that may be read-only, linked or of several models."""
    owner = "com.apple.CoreML"
    data = package / "Data" / owner
    (data / "weights").mkdir(parents=True)
    shutil.copyfile(model, data / "model.mlmodel")
    shutil.copyfile(weights, data / "weights" / "weight.bin")
    items = {
        identifier: {"author": owner, "description": "pocketseq", "name": name, "path": f"{owner}/{name}"}
        for identifier, name in (("model", "model.mlmodel"), ("weights", "weights"))
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": "model"}
    (package / "Manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return package

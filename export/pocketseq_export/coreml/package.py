"""From a program to a package on disk: the same bytes for the same model, without Core ML."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, Final

from coremltools.converters.mil.backend.mil.load import load as export_model
from coremltools.converters.mil.mil import Program

from pocketseq_export.coreml.precisions import Precision

FUNCTIONS: Final = ("encode", "step")
"""Of every variant."""
OWNER: Final = "com.apple.CoreML"
"""Of a package's items; the folder that holds them has the same name."""


def write_package(program: Program, package: Path, *, precision: Precision) -> tuple[Path, ...]:
    """Write a program as a package.

    A stateful one holds one model with both functions. Several functions need iOS 18 as states do: a stateless package holds a
    model for each function, over one file of weights, and opens as ``step`` where only one model is looked for.

    Returns:
        The package's files.
    """
    data = package / "Data" / OWNER
    (data / "weights").mkdir(parents=True)
    for name in ("model",) if precision.stateful else FUNCTIONS:
        spec = _stateful(program, data, precision) if precision.stateful else _stateless(program, name, data, precision)
        (data / f"{name}.mlmodel").write_bytes(spec.SerializeToString(deterministic=True))
    items = {path.stem: path.name for path in sorted(data.iterdir())}
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            _identifier(item): {"author": OWNER, "description": f"pocketseq {item}", "name": name, "path": f"{OWNER}/{name}"}
            for item, name in items.items()
        },
        "rootModelIdentifier": _identifier("model" if precision.stateful else "step"),
    }
    # In the form in which coremltools writes it anew whenever it opens a package: the bundle's hash of it still holds then.
    (package / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8")
    return tuple(sorted(path for path in package.rglob("*") if path.is_file()))


def _stateful(program: Program, data: Path, precision: Precision) -> Any:
    program.export_as_multifunction = True
    program.default_function_name = FUNCTIONS[0]
    return export_model(program, str(data / "weights"), specification_version=precision.target.value)


def _stateless(program: Program, name: str, data: Path, precision: Precision) -> Any:
    # Every call writes the weights of all functions, the same bytes each time, and describes the default function.
    program.default_function_name = name
    (data / "weights" / "weight.bin").unlink(missing_ok=True)
    spec = export_model(program, str(data / "weights"), specification_version=precision.target.value)
    functions = spec.mlProgram.functions
    functions["main"].CopyFrom(functions[name])
    for function in FUNCTIONS:
        del functions[function]
    return spec


def _identifier(item: str) -> str:
    """An identifier that every export has in common, so that equal models are equal files."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{item}.pocketseq")).upper()

"""Packing: the part of a bundle that a device needs, as a directory or as one file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pocketseq.bundle import SUFFIX, open_bundle, pack, write_manifest
from pocketseq.errors import BundleError, VariantNotFoundError
from pocketseq.manifest import Manifest


def pack_variants(source: str | Path, output: Path, *, labels: Sequence[str] = ()) -> Manifest:
    """Write a bundle anew with some of its variants; every file is verified on the way.

    Args:
        source: A bundle as ``open_bundle`` takes it.
        output: A ``.pocketseq`` file, which is replaced, or a directory that is not there yet.
        labels: Variants such as ``onnx/int8``; all if none are given.

    Returns:
        The manifest that was written.

    Raises:
        VariantNotFoundError: the bundle has no such variant.
        BundleError: not a usable bundle, or the directory is there already.
    """
    if output.suffix == SUFFIX:
        with tempfile.TemporaryDirectory(prefix="pocketseq-") as folder:
            manifest = _copy(source, Path(folder), labels)
            pack(Path(folder), output)
        return manifest
    if output.exists():
        raise BundleError(f"{output}: expected a directory that is not there yet, found one; remove it or choose another name")
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        manifest = _copy(source, aside, labels)
        aside.replace(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def _copy(source: str | Path, folder: Path, labels: Sequence[str]) -> Manifest:
    with open_bundle(source) as bundle:
        there = {variant.label: variant for variant in bundle.manifest.variants}
        missing = [label for label in labels if label not in there]
        if missing:
            raise VariantNotFoundError(f"{source}: expected the variants {missing}, found only {list(there)}{bundle.elsewhere}")
        manifest = replace(bundle.manifest, variants=tuple(there[label] for label in labels or there))
        files = [manifest.tokenizer, *(file for variant in manifest.variants for file in variant.files)]
        for name, path in bundle.paths(files).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
    write_manifest(folder, manifest)
    return manifest

"""A kit: one ``.pyz`` file that measures its bundle on a device where the SDK is installed, and nothing else need be.

The file is a Python zip application with this package in it, so that a device measures as the machine that packed it would.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zipfile
from argparse import ArgumentParser
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from pocketseq.bundle import open_bundle
from pocketseq.packing import pack_variants
from pocketseq_bench.device import bundle_card
from pocketseq_bench.document import BundleCard
from pocketseq_bench.measuring.inputs import BenchInputs, default_inputs

_BUNDLE: Final = "bundle.pocketseq"
_INPUTS: Final = "inputs.jsonl"
_MAIN: Final = '''\
"""Measures the bundle in this file: python {name}"""
import sys

try:
    import pocketseq
except ImportError:
    sys.exit("this needs pocketseq, which is not installed; mend it with: pip install pocketseq")

from pocketseq_bench.kit import main

sys.exit(main(__file__))
'''


def write_kit(source: str | Path, output: Path, *, inputs: BenchInputs | None = None) -> BundleCard:
    """Pack a bundle with all its variants, inputs, and what measures them.

    Args:
        source: What ``PocketModel.load`` takes.
        output: The file to write, by custom ``.pyz``.
        inputs: What to ask; None takes the package's own inputs for the bundle's task.

    Returns:
        What was packed.

    Raises:
        BundleError: the bundle cannot be used.
        DataError: no inputs.
    """
    with open_bundle(source) as bundle:
        card = bundle_card(bundle.manifest)
        inputs = inputs or default_inputs(bundle.manifest.task)
    rows = [
        {"fields": dict(row.fields), "kind": row.kind} | ({"target": row.target} if inputs.labelled else {}) for row in inputs.rows
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with tempfile.TemporaryDirectory(prefix="pocketseq-") as folder, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as kit:
            packed = Path(folder) / _BUNDLE
            pack_variants(source, packed)
            kit.writestr("__main__.py", _MAIN.format(name=output.name))
            kit.write(packed, _BUNDLE, compress_type=zipfile.ZIP_STORED)
            kit.writestr(_INPUTS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            _add(kit, files("pocketseq_bench"), "pocketseq_bench")
        aside.replace(output)
    finally:
        aside.unlink(missing_ok=True)
    return card


def main(program: str) -> int:
    """Unpack what lies in the kit, measure, and write one JSON; called by the kit itself.

    Args:
        program: ``__file__`` of the kit's main module.
    """
    from pocketseq.errors import PocketSeqError
    from pocketseq_bench.commands.bench import configure_measuring, measure

    kit = Path(program).parent
    parser = ArgumentParser(prog=f"python {kit.name}", description="Measure the bundle in this file on this device.")
    configure_measuring(parser)
    args = parser.parse_args()
    # Measured processes import this package from here too.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(kit.resolve()), os.environ.get("PYTHONPATH"))))
    try:
        with tempfile.TemporaryDirectory(prefix="pocketseq-kit-") as folder, zipfile.ZipFile(kit) as archive:
            archive.extract(_INPUTS, folder)
            archive.extract(_BUNDLE, folder)
            with zipfile.ZipFile(Path(folder, _BUNDLE)) as bundle:
                bundle.extractall(Path(folder, "bundle"))
            inputs = args.inputs or Path(folder, _INPUTS)
            return measure(args, str(Path(folder, "bundle")), inputs=inputs, default=Path(f"{kit.stem}-results"))
    except PocketSeqError as error:
        print(f"{kit.name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _add(kit: zipfile.ZipFile, folder: Traversable, name: str) -> None:
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        inside = f"{name}/{each.name}"
        if each.is_dir():
            if each.name not in ("__pycache__", "inputs"):
                _add(kit, each, inside)
        elif not each.name.endswith(".pyc"):
            kit.writestr(inside, each.read_bytes())

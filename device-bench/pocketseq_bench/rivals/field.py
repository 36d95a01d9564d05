"""Who takes part in a comparison, on which model and which inputs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pocketseq.bundle import open_bundle
from pocketseq.errors import DataError, PocketSeqError
from pocketseq.examples import Example
from pocketseq.manifest import Manifest
from pocketseq.tokenizer import TextTokenizer
from pocketseq_bench.rivals.contenders import CONTENDERS, CTRANSLATE2_GUIDE, EXCLUDED, WORKERS, Contender
from pocketseq_bench.source import source_text


@dataclass(frozen=True, slots=True)
class Field:
    """Who takes part, and with what."""

    present: Sequence[Contender]
    """Contenders, ours first."""
    excluded: Mapping[str, str]
    """Who was left out, and why."""
    settings: Mapping[str, Any]
    """What their programs read."""
    rows: Sequence[Mapping[str, Any]]
    """Inputs."""
    manifest: Manifest
    """Of the bundle."""

    @property
    def timed(self) -> list[Contender]:
        """Those whose answers are timed; who differs by the tokenizer alone is only started."""
        return [contender for contender in self.present if contender is not CTRANSLATE2_GUIDE]


def enter(
    checkpoint: Path,
    bundle: str | Path,
    examples: Sequence[Example],
    count: int,
    *,
    directory: Path,
    threads: int,
    progress: Callable[[str], None],
) -> Field:
    """See who is installed and can read the checkpoint.

    Args:
        checkpoint: What the bundle was exported from.
        bundle: With an int8 variant.
        examples: Inputs.
        count: How many of them are taken.
        directory: Where converted models go.
        threads: Threads of each contender.
        progress: Told what is going on.

    Raises:
        DataError: no input that all contenders read alike.
    """
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        rows = _rows(manifest, opened.path(manifest.tokenizer), examples, count)
    excluded = dict(EXCLUDED)
    for contender in CONTENDERS:
        if contender.missing:
            excluded[contender.name] = f'not installed: pip install "pocketseq[rivals]" ({", ".join(contender.missing)})'
    present = [contender for contender in CONTENDERS if contender.name not in excluded]
    settings = _settings(manifest, checkpoint, bundle, directory, threads)
    if any("ctranslate2" in contender.modules for contender in present):
        progress(f"{manifest.name}: converting the checkpoint for ctranslate2")
        try:
            for kind, converted in settings["converted"].items():
                program("convert.py", str(checkpoint), converted, kind, expected="a checkpoint that ctranslate2 converts")
        except PocketSeqError as error:  # its converter follows transformers at a distance
            excluded |= {contender.name: str(error) for contender in present if "ctranslate2" in contender.modules}
            present = [contender for contender in present if contender.name not in excluded]
    return Field(present=present, excluded=excluded, settings=settings, rows=rows, manifest=manifest)


def _rows(manifest: Manifest, tokenizer: Path, examples: Sequence[Example], count: int) -> list[dict[str, Any]]:
    """Inputs as fields, as the prompt that others are given, and as the token ids that both must become."""
    ours, theirs = TextTokenizer.from_file(tokenizer), Tokenizer.from_file(str(tokenizer))
    rows: list[dict[str, Any]] = []
    for example in examples:
        encoded = manifest.template.encode(ours, example.fields, overflow="truncate")
        prompt = theirs.decode(list(encoded.ids), skip_special_tokens=False)
        if not encoded.truncated and theirs.encode(prompt, add_special_tokens=False).ids == list(encoded.ids):
            rows.append({"fields": dict(example.fields), "prompt": prompt, "ids": list(encoded.ids)})
        if len(rows) == count:
            return rows
    if not rows:
        raise DataError("expected inputs that fit the template's budgets and read alike everywhere, found none")
    return [rows[place % len(rows)] for place in range(count)]


def _settings(manifest: Manifest, checkpoint: Path, bundle: str | Path, directory: Path, threads: int) -> dict[str, Any]:
    return {
        "bundle": source_text(bundle),
        "checkpoint": str(checkpoint),
        "converted": {kind: str(directory / f"ctranslate2-{kind}") for kind in ("int8", "float32")},
        "threads": threads,
        "bytecode": str(directory / "bytecode"),
        "max_new_tokens": manifest.generation.max_new_tokens,
        "start_id": manifest.geometry.start_id,
        "end_id": manifest.geometry.end_id,
        "pad_id": manifest.geometry.pad_id,
    }


def program(name: str, *arguments: str, expected: str) -> None:
    """Run one of the programs beside the workers.

    Args:
        name: File in ``WORKERS``.
        arguments: Its own; the first is a path.
        expected: What it wants that to be.

    Raises:
        PocketSeqError: it failed; carries the end of what it wrote to standard error.
    """
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(WORKERS / name), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise PocketSeqError(f"{arguments[0]}: expected {expected}, found: {done.stderr.strip()[-200:]}")

"""Writing a variant that lost too much anew, with the layers that broke in a higher precision."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from pocketseq.bundle import Bundle, open_bundle, write_manifest
from pocketseq.errors import CheckpointError
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export.judging import Judge, Judged
from pocketseq_export.packing import write_variant
from pocketseq_export.sensitivity import ROUNDINGS, Teaching, rank_layers

TAUGHT: Final = 16
"""Questions along which layers are tried: enough to rank them, since every token of an answer counts."""


def mended(judge: Judge, bundle: Bundle, broken: Judged, folder: Path) -> Judged | None:
    """Write a variant with its 1, 2, 4 … most fragile layers in a higher precision, up to half of them, until it holds.

    Args:
        judge: Who decides whether it holds.
        bundle: The bundle that holds the variant.
        broken: The variant and what was found of it.
        folder: Where trials are written.

    Returns:
        The first that holds; None where none does, where the precision rounds nothing, or where the higher one cannot hold a layer.
    """
    rounding = ROUNDINGS.get(broken.variant.precision.removesuffix("-stateless"))  # which rounds the same weights
    if rounding is None:
        return None
    tokenizer = bundle.path(bundle.manifest.tokenizer)
    model, prompt = judge.reference.author(TextTokenizer.from_file(tokenizer)), judge.reference.special.prompt
    teachings = [Teaching(tuple(each.encoded.ids), (*prompt, *each.tokens[:-1])) for each in judge.questions[:TAUGHT]]
    ranked = rank_layers(model, teachings, rounding)
    count = 1
    while count <= len(ranked) // 2:
        directory = folder / f"{broken.variant.runtime}-{broken.variant.precision}-{count}"
        copy = directory / bundle.manifest.tokenizer.path
        copy.parent.mkdir(parents=True)
        shutil.copyfile(tokenizer, copy)
        try:
            variant = write_variant(model, directory, broken.variant.label, keep=ranked[:count])
        except CheckpointError:  # the trials after this one keep the same layers
            return None
        write_manifest(directory, replace(bundle.manifest, variants=(variant,)))
        with open_bundle(directory) as trial:
            verdict = judge.judge(trial, variant)
        if verdict.kept:
            return Judged(variant, directory, verdict)
        shutil.rmtree(directory)
        count *= 2
    return None

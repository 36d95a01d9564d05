"""A model whose answers do not end by themselves, so that their length can be forced: its end token is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pocketseq import PocketModel, open_bundle
from pocketseq.runtimes import open_runtime
from pocketseq.runtimes.opening import choose_variant
from pocketseq.tokenizer import TextTokenizer


def open_endless(source: str | Path, *, runtime: str | None = None, precision: str | None = None, threads: int = 1) -> PocketModel:
    """Open a model that goes on until ``max_new_tokens``; all else is as ``PocketModel.load`` makes it.

    Args:
        source: What ``PocketModel.load`` takes.
        runtime: Of the variant; None takes the bundle's first that fits.
        precision: Of the variant; None likewise.
        threads: Threads for one call.

    Raises:
        BundleError: the bundle cannot be used.
        VariantNotFoundError: no such runtime or precision in it.
    """
    bundle = open_bundle(source)
    try:
        manifest = bundle.manifest
        variant = choose_variant(manifest, runtime=runtime, precision=precision)
    except BaseException:
        bundle.close()
        raise
    return PocketModel(
        replace(manifest, geometry=replace(manifest.geometry, end_id=-1)),
        variant,
        open_tokenizer=lambda: TextTokenizer.from_file(bundle.path(manifest.tokenizer)),
        open_runtime=lambda: open_runtime(bundle, variant, threads=threads),
        close=bundle.close,
    )

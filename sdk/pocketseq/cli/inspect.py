"""``pocketseq inspect``: what is in a bundle, and whether it is whole."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from pocketseq.commands import Command

if TYPE_CHECKING:
    from pocketseq.manifest import Manifest, Variant


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments of ``pocketseq inspect``."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a path, a packaged name such as python-fix, or hf://org/name")
    parser.add_argument("--json", action="store_true", help="print the whole manifest, with each variant's hash and size")


def run(args: Namespace) -> int:
    """Verify every file of a bundle and print what it holds."""
    from pocketseq.bundle import open_bundle

    with open_bundle(args.bundle) as bundle:
        manifest = bundle.manifest
        bundle.paths([manifest.tokenizer, *(file for variant in manifest.variants for file in variant.files)])
    if args.json:
        values = manifest.to_json()
        for variant, entry in zip(manifest.variants, values["variants"], strict=True):
            entry |= {"hash": variant.hash, "size_bytes": variant.size_bytes}
        print(json.dumps(values, ensure_ascii=False, indent=2))
    else:
        print("\n".join(_lines(manifest)))
    return 0


def _lines(manifest: Manifest) -> Iterator[str]:
    geometry = manifest.geometry
    yield (
        f"{manifest.name}, version {manifest.version}, for the task {manifest.task}, licence {manifest.license}; "
        "every file is as the manifest says"
    )
    yield "input     " + ", ".join(
        f"{field.name} (up to {field.max_tokens} tokens, cut on the {field.truncate})" for field in manifest.template.fields
    )
    edited = manifest.template.edits
    longest = manifest.generation.max_new_tokens
    yield f"output    {'text' if edited is None else f'an edit of {edited!r}'}, up to {longest} tokens"
    yield (
        f"geometry  {geometry.encoder_layers} encoder and {geometry.decoder_layers} decoder layers, width {geometry.d_model}, "
        f"{geometry.heads} heads of {geometry.head_dim}, vocabulary {geometry.vocab_size}"
    )
    yield from _provenance_lines(manifest.provenance)
    tokenizer = manifest.tokenizer
    yield f"{tokenizer.path}: {tokenizer.size_bytes / 1e6:.1f} MB, sha256 {tokenizer.sha256}"
    for variant in manifest.variants:
        yield from _variant_lines(variant)


def _provenance_lines(provenance: Mapping[str, Any]) -> Iterator[str]:
    """What the exporter knew of the model; any of it may be missing from a bundle that something else made."""
    words = [f"{name} {provenance[name]}" for name in ("architecture", "teacher") if provenance.get(name)]
    if isinstance(parameters := provenance.get("parameters"), int):
        words.insert(0, f"{parameters / 1e6:.1f}M parameters")
    versions = provenance.get("versions")
    if isinstance(versions, Mapping) and isinstance(exported := versions.get("export"), Mapping):
        words.append("exported with " + ", ".join(f"{name} {version}" for name, version in exported.items()))
    if words:
        yield "made from " + ", ".join(words)


def _variant_lines(variant: Variant) -> Iterator[str]:
    yield f"{variant.label}: {variant.size_bytes / 1e6:.1f} MB, hash {variant.hash}"
    for file in variant.files:
        yield f"  {file.path}: {file.size_bytes} bytes, sha256 {file.sha256}"
    if variant.kept_layers:
        yield f"  precision    higher in {', '.join(variant.kept_layers)}"
    if variant.unchecked is not None:
        yield f"  not checked  where it was verified: {variant.unchecked}"
    if variant.degraded is not None:
        yield f"  degraded     {variant.degraded}"
    if variant.quality:
        yield "  quality      " + ", ".join(f"{name} {value:.4g}" for name, value in variant.quality.items())
    if variant.parity is not None:
        parity = variant.parity
        yield (
            f"  parity       {parity.identical_generations:.1%} of {parity.inputs} generations as the checkpoint's, "
            f"log-probabilities within {parity.max_abs_logit_difference:.2g}"
            + (f", {mean:.2g} apart on average" if (mean := parity.mean_abs_logit_difference) is not None else "")
        )
    elif variant.unchecked is None:
        yield "  parity       not judged"
    calibration = variant.calibration
    if calibration is None:
        yield "  calibration  none"
    elif calibration.variant != variant.hash:
        yield f"  calibration  of other files ({calibration.variant}); it does not count"
    elif not calibration.feasible:
        yield f"  calibration  no threshold keeps the risk at {calibration.risk:.0%}: nothing is served without the cloud"
    else:
        yield (
            f"  calibration  confidence ({calibration.scorer}) from {calibration.threshold:.3f}: {calibration.promise}; "
            f"coverage {calibration.coverage:.1%} of {calibration.n} rows{', with a gate' if calibration.gate else ''}"
        )


COMMAND: Final = Command(name="inspect", summary="verify a bundle and show what it holds", configure=configure, run=run)

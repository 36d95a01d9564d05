"""From a checkpoint to a bundle: programs, tokenizer and manifest in one directory that appears whole or not at all."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pocketseq.bundle import write_manifest
from pocketseq.errors import BundleError, CheckpointError
from pocketseq.manifest import BundleFile, Generation, Geometry, Manifest, Variant
from pocketseq.storage import MANIFEST
from pocketseq.template import Template
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export.exporters import exporter, wanted_variants

if TYPE_CHECKING:
    from pocketseq_export.graphs import EncoderDecoder, GraphSpec
    from pocketseq_export.reference import Reference

WRITTEN_WITH: Final = ("coremltools", "litert-torch", "onnx", "torch", "transformers")
"""Libraries whose versions go into the provenance, where they are installed."""
UNBOUNDED_TARGET_TOKENS: Final = 4096
"""Longest answer where relative positions set no limit: a bound all the same, so that no request runs for ever."""


def export_checkpoint(
    checkpoint: Path,
    bundle: Path,
    *,
    runtimes: Sequence[str] = ("onnx",),
    precisions: Sequence[str] = ("fp32", "int8"),
    name: str | None = None,
    version: str = "1",
) -> Manifest:
    """Write a checkpoint as a bundle, without judging it; see ``verify_bundle`` for that.

    Args:
        checkpoint: A Hugging Face directory of a supported architecture.
        bundle: Directory to write; a bundle that is there already is replaced once the new one is whole.
        runtimes: Some of ``onnx``, ``tflite`` and ``coreml``, the one to prefer first.
        precisions: Such as ``int8``, for each of the runtimes, or ``onnx/int4`` for one.
        name: Name of the bundle; None takes that of the directory.
        version: Version of the bundle.

    Returns:
        What was written; variants stand in the order of the runtimes, each runtime's smallest first, which is the order in which a
        device takes the first that it can run.

    Raises:
        CheckpointError: not a checkpoint that can be exported.
        BundleError: an unknown runtime, a precision that a runtime cannot hold, or the directory holds something else.
        MissingExtraError: a runtime's libraries are not installed.
    """
    wanted = wanted_variants(runtimes, precisions)
    from pocketseq_export.reference import Reference
    from pocketseq_export.tokenizer import write_tokenizer

    reference = Reference.load(checkpoint)
    with replacing(bundle) as directory:
        tokenizer = write_tokenizer(checkpoint, directory / "tokenizer.json")
        model = reference.author(tokenizer)
        _check_fit(checkpoint, tokenizer, reference.card.template, model.spec)
        variants = [write_variant(model, directory, label) for label in wanted]
        manifest = Manifest(
            name=name or bundle.resolve().name,
            version=version,
            task=reference.card.task,
            license=reference.card.license,
            template=reference.card.template,
            tokenizer=BundleFile.describe(directory, "tokenizer.json"),
            geometry=_geometry(model.spec, reference),
            generation=_generation(model.spec, reference),
            variants=tuple(sorted(variants, key=lambda variant: (list(runtimes).index(variant.runtime), _preference(variant)))),
            provenance=_provenance(reference),
        )
        write_manifest(directory, manifest)
    return manifest


def write_variant(model: EncoderDecoder, directory: Path, label: str, *, keep: Sequence[str] = ()) -> Variant:
    """Write one variant's programs into a bundle's directory.

    Args:
        model: See ``author``.
        directory: Of the bundle.
        label: Such as ``onnx/int8``.
        keep: Linear layers to write in a higher precision; see ``Exporter``.
    """
    runtime, _, precision = label.partition("/")
    folder = directory / runtime
    folder.mkdir(exist_ok=True)
    kept = {"keep": keep} if keep else {}
    written = exporter(runtime).write_programs(model, folder, precision=precision, **kept)
    files = tuple(BundleFile.describe(directory, path.relative_to(directory).as_posix()) for path in written)
    return Variant(runtime=runtime, precision=precision, files=files, kept_layers=tuple(keep))


def remove_variant(directory: Path, variant: Variant) -> None:
    """Remove a variant's own files from a bundle's directory, and the folders that are empty then."""
    for file in variant.files:
        (directory / file.path).unlink(missing_ok=True)
    for folder in sorted({parent for file in variant.files for parent in Path(file.path).parents[:-1]}, reverse=True):
        if not any((directory / folder).iterdir()):
            (directory / folder).rmdir()


@contextmanager
def replacing(bundle: Path) -> Iterator[Path]:
    """Give a directory to write into, beside the bundle, that takes the bundle's name when the block ends without an error.

    Raises:
        BundleError: the path holds something else or the working directory, the working directory is gone, or the system refuses to
            write, for want of space or of permission.
    """
    try:
        bundle, here = bundle.resolve(), Path.cwd()  # of "." there is no name
    except FileNotFoundError:
        raise BundleError(
            f"{bundle}: expected to run in a directory, found that it was removed; change to another and run it again"
        ) from None
    if here.is_relative_to(bundle):
        raise BundleError(
            f"{bundle}: expected a directory that can be replaced as a whole, found one that this command runs in; "
            "name another, or run it from outside"
        )
    if bundle.exists() and not (bundle / MANIFEST).is_file() and (not bundle.is_dir() or any(bundle.iterdir())):
        raise BundleError(
            f"{bundle}: expected no such path, or a bundle to replace, found something else; choose another directory"
        )
    aside = bundle.with_name(f".{bundle.name}.{os.getpid()}.part")
    old = bundle.with_name(f".{bundle.name}.{os.getpid()}.old")
    try:
        bundle.parent.mkdir(parents=True, exist_ok=True)
        _sweep(bundle)
        aside.mkdir()
        yield aside
        if bundle.exists():
            bundle.rename(old)
        try:
            aside.rename(bundle)
        except OSError:
            if old.exists():
                old.rename(bundle)
            raise
    except OSError as error:
        raise BundleError(
            f"{bundle}: expected a place that can be written, found: {error}; nothing was left there, make room or choose another"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(bundle: Path) -> None:
    """Put right what killed processes left beside a bundle: halves go, and the bundle comes back where it was set aside."""
    for left in bundle.parent.glob(f".{glob.escape(bundle.name)}.*"):
        pid, _, kind = left.name.removeprefix(f".{bundle.name}.").partition(".")
        if kind not in {"part", "old"} or not pid.isdecimal() or _runs(int(pid)):
            continue
        if kind == "old" and not bundle.exists():
            left.rename(bundle)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _runs(pid: int) -> bool:
    """Whether another process of this number is there; where a system cannot tell without disturbing it, it may be."""
    if pid == os.getpid():
        return False
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _check_fit(checkpoint: Path, tokenizer: TextTokenizer, template: Template, spec: GraphSpec) -> None:
    """Check that every token has a row and every input fits the positions."""
    rows = min(spec.source_vocab_size, spec.vocab_size)
    if tokenizer.size > rows:
        raise CheckpointError(
            f"{checkpoint}: expected a tokenizer of at most {rows} tokens, as many as the model has, found {tokenizer.size}; "
            "take the tokenizer that the model was trained with"
        )
    if spec.max_positions is None:
        return
    longest = template.longest(tokenizer)
    if longest > spec.max_positions:
        raise CheckpointError(
            f"{checkpoint}: expected a template of at most {spec.max_positions} tokens, as many as the model has positions, "
            f"found {longest}; lower max_tokens of its fields"
        )


def _preference(variant: Variant) -> float:
    """The smallest first; what is for older systems just behind its like for new ones, a few kB away."""
    return variant.size_bytes * (1.05 if variant.precision.endswith("-stateless") else 1)


def _geometry(spec: GraphSpec, reference: Reference) -> Geometry:
    return Geometry(
        vocab_size=spec.vocab_size,
        d_model=spec.d_model,
        encoder_layers=spec.encoder.layers,
        decoder_layers=spec.decoder.layers,
        heads=spec.decoder.heads,
        head_dim=spec.decoder.head_dim,
        start_id=reference.special.start_id,
        end_id=reference.special.end_id,
        pad_id=reference.special.pad_id,
        max_target_tokens=_longest_target(spec),
    )


def _generation(spec: GraphSpec, reference: Reference) -> Generation:
    prefix = reference.special.forced_prefix
    return Generation(min(reference.card.max_new_tokens, _longest_target(spec) - len(prefix)), forced_prefix=prefix)


def _longest_target(spec: GraphSpec) -> int:
    return spec.max_positions or UNBOUNDED_TARGET_TOKENS


def _provenance(reference: Reference) -> dict[str, Any]:
    card = reference.card
    libraries = {library: installed(library) for library in WRITTEN_WITH if find_spec(library.replace("-", "_"))}
    return {
        "architecture": reference.model.config.model_type,
        "parameters": sum(parameter.numel() for parameter in reference.model.parameters()),
        "teacher": card.teacher,
        "data": dict(card.data),
        "recipe": dict(card.recipe),
        "training": dict(card.training),
        "metrics": dict(card.metrics),
        "versions": dict(card.versions) | {"export": libraries},
    }

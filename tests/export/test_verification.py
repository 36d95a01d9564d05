"""Variants are judged by what they say, and only those that hold stay in the bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.export.models import marian, t5, write_checkpoint

from pocketseq.bundle import open_bundle, write_manifest
from pocketseq.errors import BundleCorruptError, BundleError, DataError
from pocketseq.examples import Example
from pocketseq.manifest import BundleFile, Manifest
from pocketseq.tokenizer import TextTokenizer
from pocketseq_export import export_checkpoint, verify_bundle
from pocketseq_export.parity import ask_checkpoint
from pocketseq_export.reference import Reference

WORDS = ["for", "while", "return x", "def", "a == b", "print", "Zebra", "x1", "lambda: 0", "import os", "try", "else 9"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A T5 of noise."""
    return write_checkpoint(tmp_path / "checkpoint", t5())


@pytest.fixture
def bundle(checkpoint: Path, tmp_path: Path) -> Path:
    """Its export in both precisions."""
    export_checkpoint(checkpoint, tmp_path / "bundle")
    return tmp_path / "bundle"


def rows(checkpoint: Path) -> list[Example]:
    """Rows to which the checkpoint's own answer is the right one, so that it is as good as a model can be."""
    tokenizer = TextTokenizer.from_file(checkpoint / "tokenizer.json")
    questions = ask_checkpoint(Reference.load(checkpoint), tokenizer, [{"text": word} for word in WORDS])
    return [Example(id=word, fields={"text": word}, target=found.text) for word, found in zip(WORDS, questions, strict=True)]


def manifest_of(bundle: Path) -> Manifest:
    with open_bundle(bundle) as opened:
        return opened.manifest


def test_what_was_found_stands_in_the_manifest(checkpoint: Path, bundle: Path) -> None:
    """Full precision says what PyTorch says; the differences are small and are written down."""
    found = verify_bundle(bundle, checkpoint, rows(checkpoint), tolerance=1.0)
    fp32 = next(verdict for verdict in found.variants if verdict.precision == "fp32")
    assert found.checkpoint.exact_match == 1.0
    assert fp32.parity.identical_generations == fp32.metrics.exact_match == 1.0
    assert 0 < fp32.mean_abs_logit_difference < fp32.parity.max_abs_logit_difference < 1e-4
    for variant, verdict in zip(manifest_of(bundle).variants, found.variants, strict=True):
        assert (variant.hash, variant.parity) == (verdict.hash, verdict.parity)
        assert variant.quality["exact_match"] == verdict.metrics.exact_match
        assert verdict.parity.inputs == len(WORDS)
    assert found.to_json()["variants"][0]["parity"]["inputs"] == len(WORDS)


def test_a_variant_that_loses_too_much_is_not_kept(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    """Its files go too, and the report says why. Here the int8 programs are those of another model."""
    other = write_checkpoint(tmp_path / "other", t5(feed_forward_proj="gated-gelu"))
    export_checkpoint(other, tmp_path / "strange", precisions=["int8"])
    (bundle / "onnx" / "int8").rename(tmp_path / "aside")
    (tmp_path / "strange" / "onnx" / "int8").rename(bundle / "onnx" / "int8")
    manifest = manifest_of(bundle)
    int8 = manifest.variant(precision="int8")
    files = tuple(BundleFile.describe(bundle, file.path) for file in int8.files)
    write_manifest(bundle, manifest.replacing(replace(int8, files=files)))

    found = verify_bundle(bundle, checkpoint, rows(checkpoint), tolerance=0.1)

    assert [(verdict.precision, verdict.kept) for verdict in found.variants] == [("int8", False), ("fp32", True)]
    assert "where the checkpoint has 1.000, tolerance 0.1" in found.variants[0].reason
    assert [variant.label for variant in manifest_of(bundle).variants] == ["onnx/fp32"]
    assert not (bundle / "onnx" / "int8").exists()


def test_a_bundle_of_another_checkpoint_is_left_as_it_is(bundle: Path, tmp_path: Path) -> None:
    """None of its variants holds, which is an error and no reason to empty it."""
    other = write_checkpoint(tmp_path / "other", t5(feed_forward_proj="gated-gelu"))
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="expected a variant that answers as well as the checkpoint, found none"):
        verify_bundle(bundle, other, rows(other))
    assert (bundle / "manifest.json").read_bytes() == before


def test_a_single_row_is_no_loss(checkpoint: Path, bundle: Path) -> None:
    """The difference of one row cannot be told from chance, whatever the tolerance."""
    held_out = rows(checkpoint)
    wrong = replace(held_out[0], target=held_out[0].target + "?")
    found = verify_bundle(bundle, checkpoint, [wrong, *held_out[1:]], tolerance=0.0)
    assert found.checkpoint.exact_match == pytest.approx(11 / 12)
    assert next(verdict for verdict in found.variants if verdict.precision == "fp32").kept


def test_a_forbidden_token_is_no_difference(tmp_path: Path) -> None:
    """Neither PyTorch nor the programs say it, and its log-probability does not count as one."""
    model = marian()
    model.generation_config.bad_words_ids = [[model.config.pad_token_id]]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", model)
    export_checkpoint(checkpoint, tmp_path / "bundle", precisions=["fp32"])
    found = verify_bundle(tmp_path / "bundle", checkpoint, rows(checkpoint))
    assert found.variants[0].parity.identical_generations == 1.0
    assert found.variants[0].parity.max_abs_logit_difference < 1e-4


def test_generations_are_those_of_plain_greedy_search(checkpoint: Path) -> None:
    """The reference batches and pads; every answer is what the model says to its input alone."""
    reference = Reference.load(checkpoint)
    tokenizer = TextTokenizer.from_file(checkpoint / "tokenizer.json")
    for question in ask_checkpoint(reference, tokenizer, WORDS):
        tokens = [0]
        while len(tokens) <= 12 and tokens[-1] != 1:
            with torch.no_grad():
                logits = reference.model(
                    input_ids=torch.tensor([question.encoded.ids]), decoder_input_ids=torch.tensor([tokens])
                ).logits
            tokens.append(int(logits[0, -1].argmax()))
        assert tuple(tokens[1:]) == question.tokens


def test_a_changed_file_is_found_before_anything_runs(checkpoint: Path, bundle: Path) -> None:
    """By its hash."""
    weights = bundle / "onnx" / "fp32" / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleCorruptError, match=r"onnx/fp32/weights\.bin: expected sha256"):
        verify_bundle(bundle, checkpoint, rows(checkpoint))


def test_rows_are_needed(checkpoint: Path, bundle: Path) -> None:
    """A verdict on nothing would be worth nothing."""
    with pytest.raises(DataError, match="expected held-out rows to verify with, found none"):
        verify_bundle(bundle, checkpoint, [])
